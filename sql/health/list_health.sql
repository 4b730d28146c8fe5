create or replace function after_hours.list_health()
returns table (check_name text, ok boolean, detail text, next_command text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: all checks of health. A reader of the view needs EXECUTE on this function only.
    -- Returns: a row per check; never raises.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    select c.check_name, c.ok, c.detail, c.next_command
    from after_hours.run_checks(array[
        'check_scheduler', 'check_jobs', 'check_job_runs', 'check_announce_mode',
        'check_announcing', 'check_overdue_events', 'check_set_aside', 'check_notify_queue', 'check_locks',
        'check_purge', 'check_brake', 'check_not_purged',
        'check_relays', 'check_listeners', 'check_push',
        'check_sql_drift', 'check_indexes', 'check_access'
    ]) as c;
$$;
comment on function after_hours.list_health() is 'The rows of the view after_hours.health, a row per check.';
alter function after_hours.list_health() owner to after_hours_owner;
revoke all on function after_hours.list_health() from public;
grant execute on function after_hours.list_health() to after_hours_dba;
