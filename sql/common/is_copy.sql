create or replace function after_hours.is_copy()
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: recognize a copy: restored from a dump (in place as well), renamed, or after pg_upgrade. Nothing is announced,
    --          purged or pushed there before arm(). A copy of the data directory has the same identity and is not recognized.
    -- Returns: true for a copy that arm() has not released.
    -- Locks:   none; reads the control file.
    -- Access:  after_hours_dba, after_hours_jobs.
    select coalesce(k.system_identifier <> i.system_identifier, false) or coalesce(k.database_name <> i.database_name, false)
        or coalesce(k.marker_oid <> 'after_hours.epoch_marker'::regclass, false)
    from after_hours.known_identity() as k
    cross join after_hours.database_identity() as i;
$$;
comment on function after_hours.is_copy() is
'Whether this database is a copy of the one in which After Hours last worked: then nothing is announced, purged or pushed until '
'after_hours.arm(reason).';
alter function after_hours.is_copy() owner to after_hours_owner;
revoke all on function after_hours.is_copy() from public;
grant execute on function after_hours.is_copy() to after_hours_jobs, after_hours_dba;
