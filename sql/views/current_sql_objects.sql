create or replace view after_hours.current_sql_objects
as
select
    'routine' as kind,
    p.oid::regprocedure::text as identity,
    md5(pg_get_functiondef(p.oid)) as definition_hash
from pg_catalog.pg_proc as p
where p.pronamespace = 'after_hours'::regnamespace
union all
select
    'view' as kind,
    c.oid::regclass::text as identity,
    md5(pg_get_viewdef(c.oid)) as definition_hash
from pg_catalog.pg_class as c
where c.relnamespace = 'after_hours'::regnamespace and c.relkind = 'v';
comment on view after_hours.current_sql_objects is
'Routines and views of the stored logic as they stand in the catalog, with a hash of each definition. See sql_drift.';
alter view after_hours.current_sql_objects owner to after_hours_owner;
revoke all on after_hours.current_sql_objects from public;
grant select on after_hours.current_sql_objects to after_hours_dba;
