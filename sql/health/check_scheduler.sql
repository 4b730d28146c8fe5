create or replace function after_hours.check_scheduler()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_launcher boolean := exists (select from pg_stat_activity as a where a.backend_type = 'pg_cron launcher');
begin
    -- Purpose: check that pg_cron's launcher is running.
    -- Returns: one row. Owned by the jobs role, a member of pg_monitor.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    check_name := 'scheduler';
    if after_hours.is_ticker() then
        select count(*) > 0, format('%s tickers are running%s', count(*), case count(*) when 1 then ': a second one would take over at once' end)
        into ok, detail
        from after_hours.tickers as t
        where t.seen_at > clock_timestamp() - interval '30 seconds';
        next_command := case when not ok then 'start after-hours tick as role after_hours_jobs' end;
        return next;
        return;
    end if;
    ok := v_launcher;
    detail := case when v_launcher then 'the pg_cron launcher is running'
        else 'the pg_cron launcher is not running: no job starts' end;
    next_command := case when not ok
        then 'restart PostgreSQL, e.g. systemctl restart postgresql (pg_cron 1.4 does not restart its launcher)' end;
    return next;
end
$$;
comment on function after_hours.check_scheduler() is
'Health check: the launcher of pg_cron. Read it as view after_hours.health.';
alter function after_hours.check_scheduler() owner to after_hours_jobs;
revoke all on function after_hours.check_scheduler() from public;
grant execute on function after_hours.check_scheduler() to after_hours_owner, after_hours_dba;
