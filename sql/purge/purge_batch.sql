create or replace function after_hours.purge_batch(
    p_run_id bigint,
    out outcome text, out matches integer, out messages bigint, out nap interval
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set lock_timeout = '50ms'
-- candidates must come from the keyset's index: over a sequential scan FOR UPDATE SKIP LOCKED locks in any order
set enable_seqscan = off
set jit = off -- JIT compilation takes longer than a batch
as $$
declare
    c_lease constant interval := '1 minute';
    v_started_at timestamptz := clock_timestamp();
    v_settings after_hours.settings;
    v_run after_hours.purge_runs;
    v_cutoff timestamptz := after_hours.purge_cutoff();
    v_limit integer;
    v_seen integer := 0;
    v_picked uuid[] := '{}';
    v_expired_at timestamptz[];
    v_erased uuid[];
    v_counts bigint[];
    v_busy integer := 0;
    v_culprits uuid[];
    v_states text[];
    v_errors text[];
    v_failed integer := 0;
    v_is_retry boolean := false;
    v_size integer;
    v_next record;
    v_elapsed interval;
begin
    -- Purpose: one batch of a run, with all guards; commits nothing. A direct call can't delete more than purge(): the run
    --          must be open and this session's own, and the cutoff is never later than the run's.
    -- Returns: outcome more (call again) | busy (a lock was not available: sleep, call again) | again (another pass over
    --          what was locked: sleep, call again) | succeeded, partial, paused, braked (the run is closed); counts of
    --          this batch; nap: how long to sleep after the COMMIT.
    -- Locks:   run row → matches and messages ACCESS SHARE → holds SHARE → matches FOR UPDATE SKIP LOCKED → messages → head of
    --          the chain; 50 ms at most each.
    -- Access:  after_hours_dba, after_hours_jobs.
    matches := 0;
    messages := 0;
    nap := '0';
    outcome := 'busy';
    -- What the caller has written may have left deferred triggers: the deletes would fire them with the eraser's rights.
    if pg_current_xact_id_if_assigned() is not null then
        raise exception using
            errcode = 'AH020',
            message = 'a batch must be the first that its transaction writes; this one has already written',
            hint = 'COMMIT first; or CALL after_hours.purge(); which commits before each batch. (A savepoint that is rolled back, a '
                'temporary table and a first nextval() count as writing.)';
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using
            errcode = 'AH013',
            message = format('a batch must run at READ COMMITTED, this transaction is at %s',
                upper(current_setting('transaction_isolation'))),
            detail = 'The batch must see what is committed while it waits for its locks: an older snapshot would miss a save.',
            hint = 'CALL after_hours.purge(); it sets the level itself.';
    end if;
    select s.* into v_settings from after_hours.settings as s;

    -- step 1: the run, and its lease
    begin
        select r.* into v_run from after_hours.purge_runs as r where r.id = p_run_id for update;
        lock table only public.after_hours_matches, public.after_hours_messages in access share mode;
    exception when lock_not_available then
        return;
    end;
    perform after_hours.assert_row_visibility(); -- and that they are plain tables
    if v_run.status is distinct from 'running' or v_run.backend_pid <> pg_backend_pid() then
        raise exception using
            errcode = 'AH012',
            message = case
                when v_run.id is null then format('there is no purge run %s', p_run_id)
                when v_run.status <> 'running'
                    then format('purge run %s is closed: %s', p_run_id, concat_ws(', ', v_run.status, v_run.detail))
                else format('purge run %s belongs to backend %s', p_run_id, v_run.backend_pid)
            end,
            hint = 'CALL after_hours.purge(); opens a run of its own. What happened: select * from after_hours.purge_history;';
    end if;
    if after_hours.is_paused('purge') then
        perform after_hours.finish_purge_run(p_run_id, 'paused', (
            select format('paused until %s by %s: %s', after_hours.iso_utc(p.until), p.paused_by, p.reason)
            from after_hours.pauses as p
            where p.job = 'purge'
        ));
        outcome := 'paused';
        return;
    end if;
    -- Scan the key range of the previous batch once: this marks its index entries as dead (LP_DEAD, by btree's
    -- kill_prior_tuple), a few hundred here. Otherwise the last scan of the run pays for all of them in one long transaction.
    if v_run.tail_match_id is not null then
        execute
            'select count(*) from public.after_hours_matches as m where m.converted_to_match_id is null '
            'and (m.expires_at, m.id) > ($1, $2) and (m.expires_at, m.id) <= ($3, $4)'
        using v_run.tail_expires_at, v_run.tail_match_id, v_run.cursor_expires_at, v_run.cursor_match_id;
    end if;
    v_cutoff := least(v_cutoff, v_run.cutoff);
    v_limit := least(v_run.batch_size, v_settings.purge_batch_max);
    -- the brake also limits the run itself: it may delete no more than was allowed at its start
    v_limit := case
        when v_run.matches >= v_run.match_limit or v_run.messages >= v_run.message_limit then 0
        else least(v_limit, v_run.match_limit - v_run.matches)
    end;

    begin
        -- step 2: every hold is placed entirely before or entirely after this batch
        lock table after_hours.holds in share mode;

        -- step 3: lock candidates; rows locked by another transaction (a save, a hold, a write) are skipped
        if v_limit = 0 then
            null;
        elsif v_run.match_id is not null then
            select coalesce(array_agg(c.id), '{}'), count(*)
            into v_picked, v_seen
            from (
                select m.id
                from public.after_hours_matches as m
                where m.id = v_run.match_id
                for update skip locked
            ) as c;
        else
            -- EXECUTE: planned for its values each time, as a generic plan may not use the keyset's index. (plan_cache_mode
            -- would also make each foreign key check, one per match, plan anew: it doubled their cost.)
            execute
                'select coalesce(array_agg(c.id), ''{}''), count(*), '
                '(array_agg(c.expires_at order by c.expires_at desc, c.id desc))[1], '
                '(array_agg(c.id order by c.expires_at desc, c.id desc))[1] '
                'from (select m.id, m.expires_at from public.after_hours_matches as m '
                'where m.converted_to_match_id is null and m.expires_at < $1 and ($3 is null or (m.expires_at, m.id) > ($2, $3)) '
                'order by m.expires_at, m.id limit $4 for update skip locked) as c'
            into v_picked, v_seen, v_run.cursor_expires_at, v_run.cursor_match_id
            using v_cutoff, v_run.cursor_expires_at, v_run.cursor_match_id, v_limit;
            if v_seen = 0 then
                -- the end: retry matches that raised an error in earlier runs, a few at a time
                v_is_retry := true;
                select p.picked, p.tried into v_picked, v_seen from after_hours.pick_failed_matches(p_run_id, v_cutoff) as p;
            end if;
        end if;

        -- step 4: a second statement has a new snapshot: it sees what was committed before our locks were granted
        select
            coalesce(array_agg(p.id order by p.expires_at, p.id), '{}'),
            coalesce(array_agg(p.expires_at order by p.expires_at, p.id), '{}')
        into v_picked, v_expired_at
        from after_hours.purgeable_matches as p
        where p.id = any(v_picked) and p.expires_at < v_cutoff
            and (
                v_is_retry or v_run.match_id is not null
                or not exists (select from after_hours.purge_failures as f where f.match_id = p.id)
            );
    exception when lock_not_available or deadlock_detected or serialization_failure then
        update after_hours.purge_runs as r set lease_until = clock_timestamp() + c_lease where r.id = p_run_id;
        return;
    end;

    -- step 5: limit the batch to the messages that fit into the time, but at least one match; then delete
    if cardinality(v_picked) > 0 then
        v_size := cardinality(v_picked);
        -- counted match by match: an index-only scan each, as messages of this age are on all-visible pages
        select array_agg(c.id order by c.nr), array_agg(c.expires_at order by c.nr), array_agg(c.messages order by c.nr)
        into v_picked, v_expired_at, v_counts
        from (
            select i.id, i.expires_at, i.nr, g.messages, sum(g.messages) over (order by i.nr) as running
            from unnest(v_picked, v_expired_at) with ordinality as i (id, expires_at, nr)
            cross join lateral (select count(*) as messages from public.after_hours_messages as m where m.match_id = i.id) as g
        ) as c
        where c.nr = 1 or c.running <= v_run.batch_messages;
        if cardinality(v_picked) < v_size and v_run.match_id is null and not v_is_retry then
            v_run.cursor_expires_at := v_expired_at[cardinality(v_picked)];
            v_run.cursor_match_id := v_picked[cardinality(v_picked)];
        end if;
        select
            coalesce(array_agg(e.match_id) filter (where e.outcome = 'erased'), '{}'),
            coalesce(array_agg(e.messages) filter (where e.outcome = 'erased'), '{}'),
            count(*) filter (where e.outcome = 'busy'),
            array_agg(e.match_id) filter (where e.outcome = 'failed'),
            array_agg(e.sqlstate) filter (where e.outcome = 'failed'),
            array_agg(e.message) filter (where e.outcome = 'failed'),
            coalesce(sum(e.messages), 0)
        into v_erased, v_counts, v_busy, v_culprits, v_states, v_errors, messages
        from after_hours.delete_matches(v_picked, v_counts, v_started_at + v_settings.purge_batch_target * 2) as e;
        matches := cardinality(v_erased);
        v_failed := coalesce(cardinality(v_culprits), 0);
        if v_failed > 0 then
            insert into after_hours.purge_failures as f (match_id, sqlstate, message, run_id)
            select e.match_id, e.sqlstate, e.message, p_run_id
            from unnest(v_culprits, v_states, v_errors) as e (match_id, sqlstate, message)
            on conflict (match_id) do update
                set sqlstate = excluded.sqlstate, message = excluded.message, attempts = f.attempts + 1,
                    last_at = clock_timestamp(), run_id = excluded.run_id;
        end if;
        if v_is_retry or v_run.match_id is not null then
            delete from after_hours.purge_failures as f where f.match_id = any(v_erased);
        end if;
        if v_erased <> v_picked then
            select array_agg(x.expired_at order by e.nr)
            into v_expired_at
            from unnest(v_erased) with ordinality as e (id, nr)
            join unnest(v_picked, v_expired_at) as x (id, expired_at) on x.id = e.id;
        end if;
    end if;

    -- step 6: write tombstones, under the lock of the chain's head
    if matches > 0 then
        perform after_hours.record_tombstones(p_run_id, v_run.batches + 1, v_erased, v_expired_at, v_counts);
    end if;

    -- step 7: update the run's row: counts, cursor, size of the next batch
    v_elapsed := clock_timestamp() - v_started_at;
    nap := case
        when after_hours.replication_lag() > v_settings.purge_max_lag then v_settings.purge_max_nap
        when exists (select from pg_locks as l where not l.granted and pg_backend_pid() = any(pg_blocking_pids(l.pid)))
            then least(v_elapsed, v_settings.purge_max_nap)
        else '0'
    end;
    v_next := after_hours.next_batch_size(
        v_run.batch_size, v_run.batch_messages, cardinality(v_picked), v_busy,
        case when v_busy = 0 then greatest(matches, v_seen) else matches end, -- many held ones are walked through in large steps
        messages,
        v_elapsed, v_settings.purge_batch_target, v_settings.purge_batch_max
    );
    update after_hours.purge_runs as r
    set lease_until = clock_timestamp() + c_lease,
        waits_for = case when purge_batch.matches = 0 then r.waits_for end,
        tail_expires_at = r.cursor_expires_at,
        tail_match_id = r.cursor_match_id,
        cursor_expires_at = coalesce(v_run.cursor_expires_at, r.cursor_expires_at),
        cursor_match_id = coalesce(v_run.cursor_match_id, r.cursor_match_id),
        batch_size = v_next.batch_size,
        batch_messages = v_next.batch_messages,
        batches = r.batches + (purge_batch.matches > 0)::integer,
        matches = r.matches + purge_batch.matches,
        messages = r.messages + purge_batch.messages,
        skipped = r.skipped + v_busy,
        failed = r.failed + v_failed,
        longest_batch = greatest(r.longest_batch, v_elapsed)
    where r.id = p_run_id;
    outcome := 'more';
    if v_run.match_id is null and v_seen > 0 then
        return;
    end if;

    -- step 8: end of a pass: the run succeeds only if nothing overdue is left except failed matches (see not_purged)
    outcome := after_hours.finish_purge_pass(p_run_id, v_cutoff, v_limit);
end
$$;
comment on function after_hours.purge_batch(bigint) is
'One batch of an open purge run, with all guards: the run is open and this session''s own, not paused, not braked, READ '
'COMMITTED, its own cutoff. Commits nothing. Called by purge(). Errors AH012, AH013, AH015, AH020.';
alter function after_hours.purge_batch(bigint) owner to after_hours_owner;
revoke all on function after_hours.purge_batch(bigint) from public;
grant execute on function after_hours.purge_batch(bigint) to after_hours_jobs, after_hours_dba;
