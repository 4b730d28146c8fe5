-- What is ours belongs to after_hours_owner, also after a restore without owners or REASSIGN OWNED. Routines and views get their
-- owner by their own files.
do $$
declare
    v_row record;
begin
    if not exists (select from pg_namespace as n where n.nspname = 'after_hours' and n.nspowner = 'after_hours_owner'::regrole) then
        alter schema after_hours owner to after_hours_owner;
    end if;
    for v_row in
        select
            format('alter %s after_hours.%I owner to after_hours_owner', case c.relkind when 'S' then 'sequence' else 'table' end,
                c.relname) as statement
        from pg_class as c
        where c.relnamespace = 'after_hours'::regnamespace and c.relkind in ('r', 'S') and c.relowner <> 'after_hours_owner'::regrole
            and not exists (select from pg_depend as d where d.objid = c.oid and d.deptype in ('a', 'i') and d.refobjsubid > 0)
        union all
        select
            format('alter %s after_hours.%I owner to after_hours_owner', case t.typtype when 'd' then 'domain' else 'type' end,
                t.typname)
        from pg_type as t
        left join pg_class as c on c.oid = t.typrelid
        where t.typnamespace = 'after_hours'::regnamespace and t.typowner <> 'after_hours_owner'::regrole
            and (t.typtype = 'd' or c.relkind = 'c')
    loop
        execute v_row.statement;
    end loop;
    -- who could change the table of revisions could make the next upgrade repeat or leave out some
    for v_row in
        select distinct case when x.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(x.grantee)) end as grantee
        from pg_class as c
        cross join lateral aclexplode(c.relacl) as x
        where c.oid = to_regclass('public.after_hours_alembic_version') and x.grantee <> c.relowner
    loop
        execute format('revoke all on public.after_hours_alembic_version from %s', v_row.grantee);
    end loop;
end
$$;

-- The owner of the application's tables is bound by no grant: another one since the last apply is a row of health.
insert into after_hours.noted_owners as n (tab, owner)
select c.relname, pg_get_userbyid(c.relowner)
from pg_class as c
where c.relnamespace = 'public'::regnamespace and c.relname in ('after_hours_sessions', 'after_hours_matches', 'after_hours_messages')
on conflict (tab) do update set owner = excluded.owner, noted_at = now() where n.owner <> excluded.owner;
