create or replace function after_hours.list_exposures()
returns table (subject text, ok boolean, finding text, advice text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: who else can read or change the application's tables or execute our routines: PUBLIC and roles that are
    --          neither ours, nor the owner, nor a member of one of these. Some services grant everything to web roles.
    -- Returns: a row per table with such grants, and one for all routines; a single row that is ok if there are none.
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
    ),

    unknown as (
        select g.object, g.name, g.kind, coalesce(r.rolname, 'public') as grantee,
            string_agg(distinct lower(g.privilege_type), ', ') as privileges
        from granted as g
        left join pg_roles as r on r.oid = g.grantee
        where r.oid is null or not (
            r.rolsuper or r.oid = g.owner or r.rolname like 'after\_hours\_%' or pg_has_role(r.oid, g.owner, 'member')
            or exists (
                select
                from pg_roles as o
                where o.rolname in ('after_hours_app', 'after_hours_moderator', 'after_hours_dba', 'after_hours_relay')
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
    select 'exposure', true, 'no other role has rights on the three tables or our routines', null
    where not exists (select from unknown);
$$;
comment on function after_hours.list_exposures() is
'Roles that are not ours and have rights on the application''s tables or our routines, PUBLIC included. Part of doctor().';
alter function after_hours.list_exposures() owner to after_hours_owner;
revoke all on function after_hours.list_exposures() from public;
grant execute on function after_hours.list_exposures() to after_hours_dba;
