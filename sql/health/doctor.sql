create or replace function after_hours.doctor()
returns table (subject text, ok boolean, finding text, advice text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '250ms'
as $$
begin
    -- Purpose: everything that can be examined by SQL: server, pg_cron, roles, the application's schema, vacuum.
    --          health shows what fails now; doctor also shows what will fail.
    -- Returns: a row per subject, failed ones first; never raises.
    -- Locks:   none; reads the catalog.
    -- Access:  after_hours_dba.
    return query
    select f.check_name, f.ok, f.detail, f.next_command
    from after_hours.run_checks(array[
        'examine_server', 'examine_pg_cron', 'examine_jobs', 'examine_access', 'list_exposures', 'examine_dependencies', 'examine_tables',
        'examine_replication', 'check_sql_drift', 'check_indexes'
    ]) as f
    order by f.ok, f.check_name;
end
$$;
comment on function after_hours.doctor() is
'Examines server, pg_cron, roles, rights, settings, foreign keys and triggers of the application, vacuum and indexes, with '
'advice for each. Failed subjects come first.';
alter function after_hours.doctor() owner to after_hours_owner;
revoke all on function after_hours.doctor() from public;
grant execute on function after_hours.doctor() to after_hours_dba;
