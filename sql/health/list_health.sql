create or replace function after_hours.list_health()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '250ms'
as $$
begin
    -- Purpose: all checks of health. A reader of the view needs EXECUTE on this function only.
    -- Returns: a row per check; never raises.
    -- Locks:   all tables ACCESS SHARE; what is not free within 250 ms makes a row that says so.
    -- Access:  after_hours_dba.
    begin
        perform after_hours._share_tables(); -- then, in a second statement, one snapshot of all
    exception when others then
        null; -- the check that reads that table says why it can't
    end;
    return query
    select c.check_name, c.ok, c.detail, c.next_command
    from after_hours.run_checks(array[
        'check_scheduler', 'check_jobs', 'check_job_runs', 'check_announce_mode',
        'check_announcing', 'check_overdue_events', 'check_set_aside', 'check_notify_queue', 'check_locks',
        'check_purge', 'check_brake', 'check_not_purged',
        'check_relays', 'check_listeners', 'check_push',
        'check_sql_drift', 'check_indexes', 'check_access'
    ]) as c;
end
$$;
comment on function after_hours.list_health() is 'The rows of the view after_hours.health, a row per check.';
alter function after_hours.list_health() owner to after_hours_owner;
revoke all on function after_hours.list_health() from public;
grant execute on function after_hours.list_health() to after_hours_dba;
