create or replace function after_hours.check_announcing(p_now timestamptz default clock_timestamp())
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_pause after_hours.pauses;
    v_heartbeat timestamptz := (select e.heartbeat_at from after_hours.emitter as e);
    v_allowed interval := case (select m.mode from after_hours.announce_mode() as m)
        when 'tick' then interval '80 seconds' else interval '35 seconds'
    end;
    v_since timestamptz := (select s.announce_since from after_hours.settings as s);
begin
    -- Purpose: check that scheduled runs announce.
    -- Returns: one row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    check_name := 'announcing';
    select p.* into v_pause from after_hours.pauses as p where p.job = 'announce' and p.until > p_now;
    if v_pause.job is not null then
        ok := false;
        detail := format('paused until %s by %s: %s', after_hours.iso_utc(v_pause.until), v_pause.paused_by, v_pause.reason);
        next_command := 'select after_hours.resume_job(''announce'');';
    elsif after_hours.is_copy() then
        ok := false;
        detail := 'this is a copy of another database: nothing is announced, purged or pushed in it';
        next_command := 'if it takes the original''s place: select after_hours.arm(''why''); runs begin at the next minute';
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
        end || coalesce((
            select format('; until %s passes had no effect: %s', after_hours.iso_utc(e.failed_at), e.failure)
            from after_hours.emitter as e
            where e.failed_at > p_now - interval '10 minutes'
        ), '');
        next_command := case
            when v_heartbeat > p_now + interval '5 seconds'
                then 'select after_hours.end_stuck_loops(); pg_cron starts others at the next minute'
            when not ok then 'select * from after_hours.jobs; meanwhile by hand: select * from after_hours.announce_due();' end;
    end if;
    return next;
end
$$;
comment on function after_hours.check_announcing(timestamptz) is
'Health check: pause, heartbeat of the scheduled runs, announce_since. Read it as view after_hours.health.';
alter function after_hours.check_announcing(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.check_announcing(timestamptz) from public;
grant execute on function after_hours.check_announcing(timestamptz) to after_hours_dba;
