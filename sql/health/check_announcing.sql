create or replace function after_hours.check_announcing(p_now timestamptz default clock_timestamp())
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_pause after_hours.pauses;
    v_heartbeat timestamptz := (select e.heartbeat_at from after_hours.emitter as e);
    v_allowed interval := case (select m.mode from after_hours.announce_mode() as m)
        when 'tick' then interval '80 seconds' else interval '35 seconds'
    end;
    v_late record;
    v_holder integer;
    v_aside record;
    v_since timestamptz := (select s.announce_since from after_hours.settings as s);
    v_usage double precision := pg_notification_queue_usage();
begin
    -- Purpose: checks of announcing: heartbeat, overdue events, errors, the notification queue.
    -- Returns: one row per check.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    select p.* into v_pause from after_hours.pauses as p where p.job = 'announce' and p.until > p_now;
    check_name := 'announcing';
    if v_pause.job is not null then
        ok := false;
        detail := format('paused until %s by %s: %s', after_hours.iso_utc(v_pause.until), v_pause.paused_by, v_pause.reason);
        next_command := 'select after_hours.resume_job(''announce'');';
    elsif v_since > p_now then
        ok := false;
        detail := format('nothing that ends before %s is announced: settings.announce_since lies ahead', after_hours.iso_utc(v_since));
        next_command := 'if the clock is correct now, set the instant of the installation (earlier ends are never announced): '
            'update after_hours.settings set announce_since = …;';
    else
        ok := coalesce(v_heartbeat between p_now - v_allowed and p_now + interval '5 seconds', false);
        detail := case
            when v_heartbeat is null then 'no scheduled run has announced yet'
            when v_heartbeat > p_now + interval '5 seconds' then format(
                'none since the clock was set back: the last heartbeat is of %s, the time is %s', after_hours.iso_utc(v_heartbeat),
                    after_hours.iso_utc(p_now)
            )
            else format('last heartbeat %s s ago', round(extract(epoch from p_now - v_heartbeat)))
        end;
        next_command := case
            when v_heartbeat > p_now + interval '5 seconds'
                then 'select after_hours.end_stuck_loops(); pg_cron starts others at the next minute'
            when not ok then 'select * from after_hours.jobs; meanwhile by hand: select * from after_hours.announce_due();' end;
    end if;
    return next;

    select count(*) as n, min(u.due_at) as due_at
    into v_late
    from after_hours.list_upcoming(p_now) as u
    where u.due_at < p_now - interval '2 seconds';
    -- The process that has locked the oldest row: its transaction id is the row's xmax.
    select l.pid
    into v_holder
    from (
        select s.xmax
        from after_hours.list_upcoming(p_now) as u
        join public.after_hours_sessions as s on s.id = u.session_id
        where u.due_at < p_now - interval '2 seconds'
        order by u.due_at
        limit 1
    ) as r
    join pg_locks as l on l.locktype = 'transactionid' and l.transactionid = r.xmax and l.granted;
    check_name := 'overdue_events';
    ok := v_late.n = 0;
    detail := case
        when ok then 'nothing is overdue'
        else format('%s due for more than 2 s, the oldest since %s',
            case when v_late.n < 1000 then v_late.n::text else '1000 or more' end, after_hours.iso_utc(v_late.due_at))
            || case when v_holder is not null then format('; its row is locked by pid %s', v_holder) else '' end
    end;
    next_command := case
        when ok then null
        when v_holder is not null
            then format('select * from pg_stat_activity where pid = %s; then, if it can be ended: select pg_terminate_backend(%s);',
                v_holder, v_holder)
        else 'select * from after_hours.announce_due();'
    end;
    return next;

    select count(*) as n, min(a.first_at) as first_at, (array_agg(a.message))[1] as message
    into v_aside
    from after_hours.set_aside as a;
    check_name := 'set_aside';
    ok := v_aside.n = 0;
    detail := case
        when ok then 'no announcement has raised an error'
        else format('%s sessions could not be announced since %s: %s', v_aside.n, after_hours.iso_utc(v_aside.first_at),
            left(v_aside.message, 200))
    end;
    next_command := case when not ok then 'select * from after_hours.set_aside; fix the cause; they are retried automatically' end;
    return next;

    check_name := 'notify_queue';
    ok := v_usage < 0.25;
    detail := format('%s %% of the notification queue is in use', round((v_usage * 100)::numeric, 1))
        || case when v_usage > 0.5 then '; events are written without NOTIFY, relays see them by polling' else '' end;
    next_command := case when not ok then
        'a listener has an open transaction; find it: select pid, usename, xact_start from pg_stat_activity where '
            'state like ''idle in transaction%'' order by xact_start;'
    end;
    return next;
end
$$;
comment on function after_hours.check_announcing(timestamptz) is
'Health checks of announcing: heartbeat, overdue events and their locks, errors, the notification queue. Read them '
'as view after_hours.health.';
alter function after_hours.check_announcing(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.check_announcing(timestamptz) from public;
grant execute on function after_hours.check_announcing(timestamptz) to after_hours_dba;
