create or replace procedure after_hours.purge(
    p_trigger text default 'manual',
    p_max_seconds numeric default 3000,
    p_match_id uuid default null,
    p_override_brake text default null
)
language plpgsql
as $$
declare
    v_sync text := pg_catalog.current_setting('synchronous_commit');
    v_run after_hours.purge_runs;
    v_batch record;
    v_started_at timestamptz := pg_catalog.clock_timestamp();
    v_until timestamptz;
    v_told_at timestamptz := v_started_at;
    v_matches bigint := 0;
    v_messages bigint := 0;
    v_elapsed numeric;
    v_nap numeric;
    v_back_off numeric := 0.02;
    v_moved_at timestamptz := v_started_at;
    v_is_atomic boolean := false;
    v_state text;
    v_error text;
    v_holders text;
begin
    -- Purpose: delete overdue matches with their messages, one short transaction after another, until none is left or the
    --          time is up. Ctrl-C is safe at any moment: the next call continues.
    --          A procedure that COMMITs can't have a SET clause: each transaction sets its search_path first.
    -- Locks:   those of purge_batch(), for some 60 ms at a time; none while it sleeps.
    -- Access:  after_hours_dba, after_hours_jobs.
    set local search_path = pg_catalog, pg_temp;
    -- inside a transaction block nothing can be committed: detect it before anything is done
    begin
        commit;
    exception when invalid_transaction_termination then
        v_is_atomic := sqlerrm !~ 'subtransaction'
            and (sqlerrm ~ 'invalid transaction termination' or transaction_timestamp() < statement_timestamp());
    end;
    if v_is_atomic then
        raise exception using
            errcode = 'AH010',
            message = 'purge() commits after each batch and can''t run inside a transaction block',
            hint = 'End the transaction (COMMIT; or ROLLBACK;), then: CALL after_hours.purge();';
    end if;
    if p_max_seconds not between 0 and 86400 then
        raise exception using
            errcode = 'AH018',
            message = format('a purge can''t take %s seconds', p_max_seconds),
            hint = '0 is a single batch, 86400 (a day) the most; without it a run takes 50 minutes at most: CALL after_hours.purge(p_max_seconds => 600);';
    end if;
    v_until := v_started_at + coalesce(p_max_seconds, 3000) * interval '1 second';
    commit;
    -- must follow each COMMIT directly, before any read; the session's defaults may differ
    set transaction isolation level read committed, read write;
    set local search_path = pg_catalog, pg_temp;
    loop
        begin
            v_state := null;
            v_run := after_hours.open_purge_run(p_trigger, p_match_id, p_override_brake);
        exception when lock_not_available or deadlock_detected or serialization_failure then
            v_state := sqlstate; -- a lock that others hold: nothing was done, and is tried again
            v_holders := (select string_agg(l.description, '; ') from after_hours.list_lock_holders('{}', '0') as l);
        end;
        commit;
        set transaction isolation level read committed, read write;
        set local search_path = pg_catalog, pg_temp;
        exit when v_state is null;
        if clock_timestamp() >= v_until then
            raise exception using
                errcode = v_state,
                message = format('no purge run could be opened: %s', coalesce(v_holders, 'the locks of others have ended just now')),
                hint = 'Nothing was deleted. What holds the locks: select * from after_hours.list_lock_holders(); then repeat.';
        end if;
        if clock_timestamp() >= v_told_at + interval '10 seconds' then
            v_told_at := clock_timestamp();
            raise notice 'the run is not open yet; it waits for %', v_holders;
        end if;
        perform pg_sleep(v_back_off);
        v_back_off := least(v_back_off * 4, 1);
    end loop;
    if v_run.id is null then
        return;
    end if;
    v_back_off := 0.02;

    loop
        -- a crash may undo the last batches with their tombstones; the next run repeats them. The last batch is flushed.
        set local synchronous_commit = off;
        begin
            select b.* into v_batch from after_hours.purge_batch(v_run.id) as b;
        exception when others then
            get stacked diagnostics v_state = returned_sqlstate, v_error = message_text;
        end;
        if v_state in ('55P03', '40P01', '40001') then
            -- a lock that others hold, wherever the batch met it: it is rolled back as a whole, and made again after a sleep
            v_state := null;
            select 'busy'::text as outcome, 0 as matches, 0::bigint as messages, interval '0' as nap into v_batch;
        end if;
        if v_state is not null then
            perform set_config('synchronous_commit', v_sync, true);
            perform after_hours.close_purge_run(v_run.id, 'failed', format('%s (%s)', v_error, v_state));
            commit;
            raise exception using
                errcode = v_state,
                message = format('purge run %s failed: %s', v_run.id, v_error),
                hint = format(
                    'What was deleted before stays deleted. select * from after_hours.purge_history where run_id = %s;', v_run.id
                );
        end if;
        if v_batch.outcome in ('busy', 'again') then
            perform after_hours.renew_purge_lease(v_run.id, clock_timestamp() > v_moved_at + interval '10 seconds');
        elsif v_batch.matches > 0 then
            v_moved_at := clock_timestamp();
        end if;
        if v_batch.outcome in ('more', 'busy', 'again') and clock_timestamp() >= v_until then
            perform after_hours.close_purge_run(
                v_run.id, 'partial',
                format('stopped after %s s (time limit)', round(extract(epoch from clock_timestamp() - v_started_at), 1))
            );
            v_batch.outcome := 'partial';
        end if;
        if v_batch.outcome not in ('more', 'busy', 'again') then
            perform set_config('synchronous_commit', v_sync, true);
        end if;
        commit;
        set transaction isolation level read committed, read write;
        set local search_path = pg_catalog, pg_temp;
        v_matches := v_matches + v_batch.matches;
        v_messages := v_messages + v_batch.messages;
        v_elapsed := extract(epoch from clock_timestamp() - v_started_at);
        exit when v_batch.outcome not in ('more', 'busy', 'again');
        if clock_timestamp() >= v_told_at + interval '1 second' then
            v_told_at := clock_timestamp();
            raise notice 'run %: % of about % matches, % messages, % s%',
                v_run.id, v_matches, greatest(v_run.due_matches, v_matches), v_messages, round(v_elapsed, 1),
                case when v_matches > 0 then format(', about %s s to go',
                    round(greatest(v_run.due_matches - v_matches, 0) * v_elapsed / v_matches, 0)) else '' end;
        end if;
        -- sleep only if other transactions or replicas need it, and only here, where no lock is held
        if v_batch.outcome = 'more' then
            v_nap := extract(epoch from v_batch.nap);
            v_back_off := case when v_batch.matches > 0 then 0.02 else v_back_off end;
        else
            v_nap := v_back_off;
            v_back_off := least(v_back_off * 4, 1);
        end if;
        if v_nap > 0 then
            perform pg_sleep(v_nap);
            commit;
            set transaction isolation level read committed, read write;
            set local search_path = pg_catalog, pg_temp;
        end if;
    end loop;
    raise notice 'run % %: % matches, % messages in % s',
        v_run.id, v_batch.outcome, v_matches, v_messages, pg_catalog.round(v_elapsed, 2)
        using hint = case
            when p_match_id is not null and v_matches = 0
                then pg_catalog.format('Why it stays: select * from after_hours.explain_match(%L);', p_match_id)
            else 'select * from after_hours.purge_history limit 1; what stays: select * from after_hours.not_purged;'
        end;
end
$$;
comment on procedure after_hours.purge(text, numeric, uuid, text) is
'Deletes overdue matches with their messages in short transactions. p_trigger: manual (default), schedule, catch_up; '
'p_max_seconds: its time limit (default 50 minutes); p_match_id: only this one, by the same rules; p_override_brake: '
'the reason to run despite the brake. Safe to cancel. Errors AH003, AH004, AH010, AH011, AH015, AH018.';
alter procedure after_hours.purge(text, numeric, uuid, text) owner to after_hours_owner;
revoke all on procedure after_hours.purge(text, numeric, uuid, text) from public;
grant execute on procedure after_hours.purge(text, numeric, uuid, text) to after_hours_jobs, after_hours_dba;
