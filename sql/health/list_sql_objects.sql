create or replace function after_hours.list_sql_objects()
returns table (kind text, identity text, definition_hash text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: routines and views of the stored logic as they stand in the catalog. The fixed search_path matters: it
    --          decides which names a definition is printed with, and so its hash.
    -- Returns: a row per object.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    select 'routine', p.oid::regprocedure::text, md5(pg_get_functiondef(p.oid))
    from pg_proc as p
    where p.pronamespace = 'after_hours'::regnamespace
    union all
    select 'view', c.oid::regclass::text, md5(pg_get_viewdef(c.oid))
    from pg_class as c
    where c.relnamespace = 'after_hours'::regnamespace and c.relkind = 'v';
$$;
comment on function after_hours.list_sql_objects() is
'Routines and views of the stored logic as they stand in the catalog, with a hash of each definition. See view sql_drift.';
alter function after_hours.list_sql_objects() owner to after_hours_owner;
revoke all on function after_hours.list_sql_objects() from public;
grant execute on function after_hours.list_sql_objects() to after_hours_dba;
