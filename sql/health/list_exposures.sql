create or replace function after_hours.list_exposures()
returns table (subject text, ok boolean, finding text, advice text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: who else has rights on the application's tables or on anything of ours: PUBLIC and roles that are
    --          neither ours, nor the owner, nor a member of one of these. Some services grant everything to web roles.
    -- Returns: a row per table with such grants, and one each for all routines, tables, sequences and the schema of ours; a single
    --          row that is ok if there are none.
    -- Locks:   none; reads the catalog.
    -- Access:  after_hours_dba.
    with granted as (
        select 'table ' || c.oid::regclass as object, c.oid::regclass::text as name, a.grantee, a.privilege_type, c.relowner as owner,
            'table' as kind
        from pg_class as c
        cross join lateral aclexplode(c.relacl) as a
        where c.oid in (
            to_regclass('public.after_hours_sessions'), to_regclass('public.after_hours_matches'),
            to_regclass('public.after_hours_messages')
        )
        union all
        select 'routines of after_hours', 'all routines in schema after_hours', a.grantee, a.privilege_type, p.proowner, 'routine'
        from pg_proc as p
        cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
        where p.pronamespace = 'after_hours'::regnamespace
        union all
        select 'tables and views of after_hours', 'all tables in schema after_hours', a.grantee, a.privilege_type, c.relowner, 'table'
        from pg_class as c
        cross join lateral aclexplode(c.relacl) as a
        where c.relnamespace = 'after_hours'::regnamespace and c.relkind in ('r', 'v')
        union all
        select 'sequences of after_hours', 'all sequences in schema after_hours', a.grantee, a.privilege_type, c.relowner, 'sequence'
        from pg_class as c
        cross join lateral aclexplode(c.relacl) as a
        where c.relnamespace = 'after_hours'::regnamespace and c.relkind = 'S'
        union all
        select 'schema after_hours', 'schema after_hours', a.grantee, a.privilege_type, n.nspowner, 'schema'
        from pg_namespace as n
        cross join lateral aclexplode(n.nspacl) as a
        where n.nspname = 'after_hours'
        union all
        select 'table after_hours_alembic_version', 'public.after_hours_alembic_version', a.grantee, a.privilege_type, c.relowner, 'table'
        from pg_class as c
        cross join lateral aclexplode(c.relacl) as a
        where c.oid = to_regclass('public.after_hours_alembic_version')
    ),

    unknown as (
        select g.object, g.name, g.kind, coalesce(r.rolname, 'public') as grantee,
            string_agg(distinct lower(g.privilege_type), ', ') as privileges
        from granted as g
        left join pg_roles as r on r.oid = g.grantee
        where r.oid is null or not (
            r.rolsuper or r.oid = g.owner or pg_has_role(r.oid, g.owner, 'member')
            or exists (
                select
                from pg_roles as o
                where o.rolname in (
                        'after_hours_eraser', 'after_hours_jobs', 'after_hours_app', 'after_hours_relay', 'after_hours_push',
                        'after_hours_moderator', 'after_hours_dba', 'after_hours_owner'
                    )
                    and pg_has_role(r.oid, o.oid, 'member')
            )
        )
        group by g.object, g.name, g.kind, r.rolname
    )

    select
        'exposure of ' || u.object,
        false,
        string_agg(format('%s: %s', u.grantee, u.privileges), '; ' order by u.grantee),
        format('if it is the application: grant after_hours_app to it; else: revoke all on %s from %s;',
            u.name, string_agg(case when u.grantee = 'public' then 'public' else quote_ident(u.grantee) end, ', ' order by u.grantee))
    from unknown as u
    group by u.object, u.name
    union all
    select 'exposure', true, 'no other role has rights on the three tables or on what is ours', null
    where not exists (select from unknown);
$$;
comment on function after_hours.list_exposures() is
'Roles that are not ours and have rights on the application''s tables or on anything of ours, PUBLIC included. Part of doctor().';
alter function after_hours.list_exposures() owner to after_hours_owner;
revoke all on function after_hours.list_exposures() from public;
grant execute on function after_hours.list_exposures() to after_hours_dba;
