create or replace function after_hours.doctor()
returns table (subject text, ok boolean, finding text, advice text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: everything that can be examined from SQL: server, pg_cron, roles, other people's schema, vacuum.
    --          health is what is wrong now; doctor also says what will be.
    -- Returns: a row per subject, what needs attention first; never raises.
    -- Locks:   none; reads the catalog.
    -- Access:  after_hours_dba.
    return query
    select f.check_name, f.ok, f.detail, f.next_command
    from after_hours.run_checks(array[
        'examine_server', 'examine_jobs', 'examine_access', 'list_exposures', 'examine_dependencies', 'examine_tables',
        'check_sql_drift', 'check_indexes'
    ]) as f
    order by f.ok, f.check_name;
end
$$;
comment on function after_hours.doctor() is
'Examines server, pg_cron, roles, rights, settings, other people''s foreign keys and triggers, vacuum and indexes; says '
'for each what to do. What needs attention comes first.';
alter function after_hours.doctor() owner to after_hours_owner;
revoke all on function after_hours.doctor() from public;
grant execute on function after_hours.doctor() to after_hours_dba;
