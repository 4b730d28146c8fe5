create or replace function after_hours.database_identity(out system_identifier bigint, out database_name name)
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: which database is this? A restored or upgraded copy differs in it.
    -- Returns: the cluster's system identifier and the database's name.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    select c.system_identifier, current_database() from pg_control_system() as c;
$$;
comment on function after_hours.database_identity() is
'System identifier of the cluster and name of the database; recorded with each purge run, so that a copy does not purge '
'before somebody said so.';
alter function after_hours.database_identity() owner to after_hours_owner;
revoke all on function after_hours.database_identity() from public;
grant execute on function after_hours.database_identity() to after_hours_jobs, after_hours_dba;
