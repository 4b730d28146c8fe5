create or replace function after_hours.announce_due(
    p_limit integer default null,
    out expired integer, out expiring integer, out skipped integer, out has_more boolean, out next_due timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set lock_timeout = '5s'
as $$
declare
    v_now timestamptz;
    v_lead interval;
    v_since timestamptz;
    v_limit integer;
    v_epoch text;
    v_is_quiet boolean;
    v_ended_due integer;
    v_warning_due integer;
    v_ids uuid[];
begin
    -- Purpose: announce what is due now: ends first, then warnings, up to p_limit of each.
    -- Returns: the number of events written of each type, the number of due sessions skipped because another transaction
    --          holds their row lock, whether more sessions are due, and the next due instant.
    -- Locks:   after_hours.emitter EXCLUSIVE until the caller commits; the due sessions FOR NO KEY UPDATE.
    -- Access:  after_hours_dba, after_hours_jobs.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using
            errcode = 'AH041',
            message = 'announcing needs READ COMMITTED: due sessions are read after the wait for the lock',
            hint = 'set session characteristics as transaction isolation level read committed;';
    end if;
    begin
        lock table after_hours.emitter in exclusive mode;
    exception when lock_not_available then
        raise exception using
            errcode = 'AH042',
            message = 'another session has been announcing for longer than 5 seconds',
            hint = 'Find the cause: select * from after_hours.health where not ok; then repeat.';
    end;

    select s.warning_lead, s.announce_since, coalesce(p_limit, s.announce_batch)
    into v_lead, v_since, v_limit
    from after_hours.settings as s;
    v_now := clock_timestamp();

    -- Count what is due without row locks. Usually it is nothing, and the rest is skipped.
    select count(*)
    into v_ended_due
    from (
        select
        from after_hours.pending_ends as p
        where p.deadline > v_since and p.deadline <= v_now
        limit v_limit + 1
    ) as d;
    select count(*)
    into v_warning_due
    from (
        select
        from after_hours.pending_warnings as p
        where p.deadline > greatest(v_now, v_since) and p.deadline <= v_now + v_lead and p.started_at <= v_now
        limit v_limit + 1
    ) as d;

    expired := 0;
    expiring := 0;
    skipped := 0;
    has_more := greatest(v_ended_due, v_warning_due) > v_limit;
    if v_ended_due + v_warning_due > 0 then
        v_epoch := after_hours.open_epoch();
        -- Relays find events in the table without a NOTIFY too; with a full notification queue the COMMIT would fail.
        v_is_quiet := pg_notification_queue_usage() > 0.5;
        -- A SET clause of this function would end before the caller's COMMIT; set_config() lasts until the COMMIT.
        -- An event that a client has seen must survive a crash.
        if current_setting('synchronous_commit') = 'off' then
            perform set_config('synchronous_commit', 'on', true);
        end if;
    end if;

    if v_ended_due > 0 then
        select coalesce(array_agg(d.id), '{}')
        into v_ids
        from (
            select p.id
            from after_hours.pending_ends as p
            where p.deadline > v_since and p.deadline <= v_now
            order by p.deadline
            limit v_limit
            for no key update of p skip locked
        ) as d;
        skipped := skipped + greatest(0, least(v_ended_due, v_limit) - cardinality(v_ids));
        expired := after_hours.emit_events('after_hours:session_expired', v_ids, v_now, v_epoch, v_is_quiet);
    end if;

    if v_warning_due > 0 then
        select coalesce(array_agg(d.id), '{}')
        into v_ids
        from (
            select p.id
            from after_hours.pending_warnings as p
            where p.deadline > greatest(v_now, v_since) and p.deadline <= v_now + v_lead and p.started_at <= v_now
            order by p.deadline
            limit v_limit
            for no key update of p skip locked
        ) as d;
        skipped := skipped + greatest(0, least(v_warning_due, v_limit) - cardinality(v_ids));
        expiring := after_hours.emit_events('after_hours:session_expiring', v_ids, v_now, v_epoch, v_is_quiet);
    end if;

    next_due := after_hours.next_due(v_now);
end
$$;
comment on function after_hours.announce_due(integer) is
'Announces what is due now: writes events and NOTIFYs them, ends first. Returns counts, rows skipped because locked, '
'whether more is due, and the next due instant. Waits up to 5 s for a running pass (AH042). Error AH044 in a copy.';
alter function after_hours.announce_due(integer) owner to after_hours_owner;
revoke all on function after_hours.announce_due(integer) from public;
grant execute on function after_hours.announce_due(integer) to after_hours_jobs, after_hours_dba;
