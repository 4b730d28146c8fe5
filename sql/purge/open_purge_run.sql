create or replace function after_hours.open_purge_run(p_trigger text, p_match_id uuid, p_override_brake text)
returns after_hours.purge_runs
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set lock_timeout = '200ms'
as $$
declare
    v_run after_hours.purge_runs;
    v_other after_hours.purge_runs;
    v_slot timestamptz := after_hours.latest_slot();
    v_last after_hours.purge_runs;
    v_brake record;
    v_is_braked boolean;
    v_now timestamptz := clock_timestamp();
    v_pause after_hours.pauses;
begin
    -- Purpose: decide whether a run is needed, and open it: one at a time, each slot succeeds at most once, a paused or
    --          braked run deletes nothing. Closes a run whose backend has ended or whose lease has expired.
    -- Returns: the open run; all null if no run is needed; a NOTICE (for the brake a WARNING) says why.
    -- Locks:   matches, messages and holds ACCESS SHARE; the row of the running run; a second caller waits for the first one's insert. 200 ms at most each, then an error
    --          that purge() takes as a reason to try again.
    -- Access:  after_hours_dba, after_hours_jobs.
    if p_trigger is null or p_trigger not in ('schedule', 'catch_up', 'manual') then
        raise exception using
            errcode = 'AH011',
            message = format('%L is not a trigger of the purge', p_trigger),
            hint = 'Manually: CALL after_hours.purge(); pg_cron calls it with ''schedule'' and ''catch_up''.';
    end if;
    -- locked first, so that the brake counts all rows also beside a rewriting ALTER TABLE
    lock table only public.after_hours_matches, public.after_hours_messages, after_hours.holds in access share mode;
    perform after_hours._assert_tables();

    if p_match_id is not null then -- an IF of its own: row security makes the look an error, and brake() says so in words
        perform after_hours.assert_row_visibility();
        if not exists (select from public.after_hours_matches as m where m.id = p_match_id) then
            if after_hours.purged_at(p_match_id) is not null then
                raise exception using
                    errcode = 'AH004',
                    message = format('match %s was purged at %s', p_match_id, after_hours.iso_utc(after_hours.purged_at(p_match_id))),
                    hint = format('select * from after_hours.deletion_receipt(%L);', p_match_id);
            end if;
            raise exception using
                errcode = 'AH003',
                message = format('there is no match %s', p_match_id),
                hint = 'select * from after_hours.purge_preview(); shows what is due.';
        end if;
    end if;

    -- one at a time
    select r.* into v_other from after_hours.purge_runs as r where r.status = 'running';
    if found then
        select r.* into v_run from after_hours.purge_runs as r where r.id = v_other.id and r.status = 'running' for update skip locked;
        if not found or not (
            v_run.backend_pid = pg_backend_pid()
            or v_run.started_at < pg_postmaster_start_time()
            or not exists (select from pg_stat_activity as a where a.pid = v_run.backend_pid)
            or v_run.lease_until not between v_now and v_now + interval '1 day'
        ) then
            raise notice 'purge run % (%) by % has been running since %; % matches so far. Nothing was done here.',
                v_other.id, v_other.trigger, v_other.run_by, after_hours.iso_utc(v_other.started_at), v_other.matches
                using hint = 'Watch it: select * from after_hours.purge_history limit 1;';
            return null;
        end if;
        perform after_hours.finish_purge_run(
            v_run.id, 'abandoned', format('its backend %s ended or was interrupted; found by %s', v_run.backend_pid, session_user)
        );
        raise notice 'purge run % of % was abandoned (cancelled, killed or crashed); continuing', v_run.id,
            after_hours.iso_utc(v_run.started_at);
        v_run := null;
    end if;

    -- The slot. A run that started later than now was made while the clock was ahead: it closes no slot.
    update after_hours.purge_runs as r
    set slot = null, detail = concat_ws('; ', r.detail, format('the clock was ahead: slot %s is open again', after_hours.iso_utc(r.slot)))
    where r.slot >= v_slot and r.started_at > v_now and r.status <> 'running';
    if p_match_id is not null or exists (
        select from after_hours.purge_runs as r where r.slot = v_slot and r.status = 'succeeded'
    ) then
        if p_match_id is null and p_trigger <> 'manual' then
            raise notice 'the run of % has succeeded already; nothing to do', after_hours.iso_utc(v_slot);
            return null;
        end if;
        v_slot := null;
    end if;
    select r.* into v_last from after_hours.purge_runs as r where r.slot = v_slot order by r.id desc limit 1;
    if p_trigger = 'catch_up' and v_slot is null then
        raise notice 'no slot yet: the first is the 03:00 UTC after the installation';
        return null;
    end if;

    -- the pause
    select p.* into v_pause from after_hours.pauses as p where p.job = 'purge' and p.until > v_now;
    if found then
        raise notice 'the purge is paused until % by %: %', after_hours.iso_utc(v_pause.until), v_pause.paused_by, v_pause.reason
            using hint = 'select after_hours.resume_job(''purge'');';
        if p_trigger = 'manual' or v_last.status = 'paused' then
            return null;
        end if;
    end if;

    -- the brake
    v_brake := after_hours.brake(p_match_id);
    if v_pause.job is null then
        v_is_braked := v_brake.is_on and coalesce(btrim(p_override_brake), '') = '';
        if v_is_braked then
            raise warning 'the brake is on, nothing was deleted: %', v_brake.reason using hint = v_brake.hint;
            if p_trigger <> 'manual' and v_last.status = 'braked' then
                return null; -- recorded already; after arm() the slot can be run
            end if;
        elsif v_brake.is_on and p_match_id is null then
            insert into after_hours.brake_releases (released_at, released_by, reason, system_identifier, database_name, retention)
            select v_now, session_user, p_override_brake, i.system_identifier, i.database_name, s.retention
            from after_hours.database_identity() as i
            cross join after_hours.settings as s;
        end if;
        if not v_is_braked then
            perform after_hours.expire_holds();
        end if;
    end if;

    insert into after_hours.purge_runs as r (
        trigger, slot, status, started_at, lease_until, finished_at, run_by, client, backend_pid, retention, cutoff, match_id,
            override_reason,
        due_matches, match_limit, message_limit, cursor_expires_at, cursor_match_id, batch_size, batch_messages,
            system_identifier, database_name, detail
    )
    select
        p_trigger,
        v_slot,
        case when v_pause.job is not null then 'paused' when v_is_braked then 'braked' else 'running' end,
        v_now,
        v_now + interval '1 minute',
        case when v_pause.job is not null or v_is_braked then clock_timestamp() end,
        session_user,
        concat_ws(' ', nullif(current_setting('application_name'), ''), inet_client_addr()::text),
        pg_backend_pid(),
        s.retention,
        after_hours.purge_cutoff(),
        p_match_id,
        nullif(btrim(p_override_brake), ''),
        coalesce(v_brake.due_matches, 0),
        case when v_brake.reason is null and p_match_id is null then v_brake.match_limit end,
        case when v_brake.reason is null and p_match_id is null then v_brake.message_limit end,
        -- an interrupted run is continued after the last match that it has handled
        c.cursor_expires_at,
        c.cursor_match_id,
        least(coalesce(c.last_size, 100), s.purge_batch_max),
        coalesce(c.last_messages, 5000),
        i.system_identifier,
        i.database_name,
        case
            when v_pause.job is not null
                then format('paused until %s by %s: %s', after_hours.iso_utc(v_pause.until), v_pause.paused_by, v_pause.reason)
            when v_is_braked then v_brake.reason
            when v_brake.reason is not null then 'brake released: ' || v_brake.reason
            when p_trigger = 'catch_up' and v_last.id is null then format('the run of %s was missed', after_hours.iso_utc(v_slot))
        end
    from after_hours.settings as s
    cross join after_hours.database_identity() as i
    left join lateral (
        select
            l.batch_size as last_size,
            l.batch_messages as last_messages,
            case when l.status in ('partial', 'abandoned') and l.passes = 1 then l.cursor_expires_at end as cursor_expires_at,
            case when l.status in ('partial', 'abandoned') and l.passes = 1 then l.cursor_match_id end as cursor_match_id
        from after_hours.purge_runs as l
        where l.match_id is null and p_match_id is null
            and l.status in ('succeeded', 'partial', 'abandoned') and l.started_at > v_now - interval '1 day'
        order by l.id desc
        limit 1
    ) as c on true
    on conflict (status) where status = 'running' do nothing
    returning r.* into v_run;
    if v_run.id is null then
        raise notice 'another purge run has just begun; nothing done here' using hint = 'select * from after_hours.purge_history limit 1;';
        return null;
    end if;
    if v_run.status <> 'running' then
        return null;
    end if;
    return v_run;
end
$$;
comment on function after_hours.open_purge_run(text, uuid, text) is
'Opens a purge run if one is needed: no other is running, slot not yet succeeded, not paused, not braked. Closes '
'abandoned runs. Called by purge(). Errors AH003, AH004, AH011.';
alter function after_hours.open_purge_run(text, uuid, text) owner to after_hours_owner;
revoke all on function after_hours.open_purge_run(text, uuid, text) from public;
grant execute on function after_hours.open_purge_run(text, uuid, text) to after_hours_jobs, after_hours_dba;
