create or replace function after_hours.database_identity(out system_identifier bigint, out database_name name)
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: identify this database. The identity changes after a restore into a new cluster and after pg_upgrade.
    -- Returns: the system identifier of the cluster and the name of the database.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    select c.system_identifier, current_database() from pg_control_system() as c;
$$;
comment on function after_hours.database_identity() is
'System identifier of the cluster and name of the database; recorded with each purge run, so that a restored '
'copy does not purge before arm() has confirmed it.';
alter function after_hours.database_identity() owner to after_hours_owner;
revoke all on function after_hours.database_identity() from public;
grant execute on function after_hours.database_identity() to after_hours_jobs, after_hours_dba;
