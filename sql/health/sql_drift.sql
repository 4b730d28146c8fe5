create or replace view after_hours.sql_drift
with (security_barrier = true)
as
select
    coalesce(f.kind, c.kind) as kind,
    coalesce(f.identity, c.identity) as identity,
    case
        when c.identity is null then 'missing'
        when f.identity is null then 'not from sql/'
        when f.definition_hash <> c.definition_hash then 'edited by hand'
        else 'owner, rights or comment changed by hand'
    end as drift
from after_hours.sql_objects as f
full join after_hours.list_sql_objects() as c on c.kind = f.kind and c.identity = f.identity
where f.state_hash is distinct from c.state_hash
    -- a view is hashed as the server prints it: another version may print it otherwise, and so may a restored database
    and not (f.kind is not distinct from 'view' and c.kind is not distinct from 'view' and exists (
        select
        from after_hours.sql_ledger as l
        where l.applied_at = f.applied_at
            and (l.server_version <> current_setting('server_version_num')::integer / 10000
                or l.marker_oid <> 'after_hours.epoch_marker'::regclass)
    ));
comment on view after_hours.sql_drift is
'Routines and views that differ from what the last apply of sql/ created, in text, owner, rights or comment. No rows: no drift. Fix: alembic upgrade '
'head, or psql -1 -f sql/install.sql.';
alter view after_hours.sql_drift owner to after_hours_owner;
revoke all on after_hours.sql_drift from public;
grant select on after_hours.sql_drift to after_hours_dba;
