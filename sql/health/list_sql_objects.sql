create or replace function after_hours.list_sql_objects()
returns table (kind text, identity text, definition_hash text, state_hash text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: routines and views of the stored logic as they stand in the catalog. The fixed search_path matters: it
    --          decides which names a definition is printed with, and so its hash.
    -- Returns: a row per object: a hash of its definition, and one of its definition, owner, rights and comment together.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    select o.kind, o.identity, md5(o.definition),
        md5(concat_ws(
            '|', o.definition, o.owner::regrole, (select array_agg(a.item::text order by a.item::text) from unnest(o.rights) as a (item)),
            o.options::text, o.comment
        ))
    from (
        select 'routine', p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proowner, p.proacl, null::text[],
            obj_description(p.oid, 'pg_proc')
        from pg_proc as p
        where p.pronamespace = 'after_hours'::regnamespace
        union all
        select 'view', c.oid::regclass::text, pg_get_viewdef(c.oid), c.relowner, c.relacl, c.reloptions, obj_description(c.oid, 'pg_class')
        from pg_class as c
        where c.relnamespace = 'after_hours'::regnamespace and c.relkind = 'v'
    ) as o (kind, identity, definition, owner, rights, options, comment);
$$;
comment on function after_hours.list_sql_objects() is
'Routines and views of the stored logic as they stand in the catalog, with hashes of each. See view sql_drift.';
alter function after_hours.list_sql_objects() owner to after_hours_owner;
revoke all on function after_hours.list_sql_objects() from public;
grant execute on function after_hours.list_sql_objects() to after_hours_dba;
