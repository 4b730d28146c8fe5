create or replace function after_hours.check_announce_mode()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_loops integer;
    v_mode record;
begin
    -- Purpose: check that both loops are running, and tell the lateness to expect.
    -- Returns: one row. Owned by the jobs role, a member of pg_monitor.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    check_name := 'announce_mode';
    select m.mode, m.reason into v_mode from after_hours.announce_mode() as m;
    select count(*) into v_loops
    from pg_stat_activity as a
    where a.datname = current_database() and a.query ilike 'call after\_hours.announce\_loop%' and a.state <> 'idle';
    -- In the first minute after a server's start only announce_boot runs.
    ok := v_mode.mode = 'tick' or v_loops >= 2 or (v_loops = 1 and after_hours.is_ticker())
        or (v_loops = 1 and pg_postmaster_start_time() > clock_timestamp() - interval '70 seconds');
    detail := case
        when v_mode.mode = 'tick' then format('tick: expect up to a minute of lateness (%s)', v_mode.reason)
        when ok then format('loop: expect 20 ms of lateness (%s)', v_mode.reason)
        when v_loops = 1 then 'loop, but 1 of 2 loops is running: expect 20 ms, up to a minute if this one ends too'
        else 'loop, but 0 of 2 loops are running: nothing is announced before pg_cron starts one at a full minute'
    end;
    next_command := case when not ok then case
        when after_hours.is_ticker() then 'start after-hours tick as role after_hours_jobs'
        else 'wait for the next minute, when pg_cron starts both; then select * from after_hours.jobs;' end
    end;
    return next;
end
$$;
comment on function after_hours.check_announce_mode() is
'Health check: the mode of announcing and its running loops. Read it as view after_hours.health.';
alter function after_hours.check_announce_mode() owner to after_hours_jobs;
revoke all on function after_hours.check_announce_mode() from public;
grant execute on function after_hours.check_announce_mode() to after_hours_owner, after_hours_dba;
