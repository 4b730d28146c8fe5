create or replace view after_hours.sql_drift
with (security_barrier = true)
as
select
    coalesce(f.kind, c.kind) as kind,
    coalesce(f.identity, c.identity) as identity,
    case
        when c.identity is null then 'missing'
        when f.identity is null then 'not from sql/'
        else 'edited by hand'
    end as drift
from after_hours.sql_objects as f
full join after_hours.list_sql_objects() as c on c.kind = f.kind and c.identity = f.identity
where f.definition_hash is distinct from c.definition_hash;
comment on view after_hours.sql_drift is
'Routines and views that differ from what the last apply of sql/ created. No rows: no drift. Fix: alembic upgrade '
'head, or psql -1 -f sql/install.sql.';
alter view after_hours.sql_drift owner to after_hours_owner;
revoke all on after_hours.sql_drift from public;
grant select on after_hours.sql_drift to after_hours_dba;
