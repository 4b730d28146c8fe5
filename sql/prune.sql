-- The end of an apply: what the files did not make goes, and what they made is noted down for view sql_drift.
-- An apply makes every routine and view again but those that alembic found unchanged and named in after_hours.unchanged; what is
-- older than this transaction otherwise came from elsewhere.
do $$
declare
    v_stray record;
    v_theirs text[] := '{}';
    v_me xid := pg_current_xact_id()::xid; -- savepoints (ON_ERROR_ROLLBACK of a psqlrc) have later ones
    v_unchanged text[] := coalesce(nullif(current_setting('after_hours.unchanged', true), ''), '{}');
begin
    perform set_config('search_path', 'pg_catalog, pg_temp', true); -- as list_sql_objects() names things
    for v_stray in
        select 'routine' as kind, p.oid::regprocedure::text as identity, pg_get_userbyid(p.proowner) as owner
        from pg_catalog.pg_proc as p
        where p.pronamespace = 'after_hours'::regnamespace and age(p.xmin) > age(v_me)
            and p.oid::regprocedure::text <> all (v_unchanged)
        union all
        select 'view', c.oid::regclass::text, pg_get_userbyid(c.relowner)
        from pg_catalog.pg_class as c
        join pg_catalog.pg_rewrite as r on r.ev_class = c.oid
        where c.relnamespace = 'after_hours'::regnamespace and c.relkind = 'v' and age(r.xmin) > age(v_me)
            and c.oid::regclass::text <> all (v_unchanged)
    loop
        if v_stray.owner in ('after_hours_owner', 'after_hours_jobs', 'after_hours_eraser') then
            execute format('drop %s %s', v_stray.kind, v_stray.identity);
            raise warning 'dropped % %: no file of sql/ makes it', v_stray.kind, v_stray.identity;
        else
            v_theirs := v_theirs || v_stray.identity;
            raise warning '% % belongs to % and no file of sql/ makes it; left alone', v_stray.kind, v_stray.identity, v_stray.owner;
        end if;
    end loop;

    -- A view or default that was made under another search_path runs functions of others, with the rights of its reader.
    select string_agg(distinct format('%s uses %s', pg_describe_object(d.classid, d.objid, d.objsubid),
        pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)), '; ') as uses
    into v_stray
    from pg_depend as d
    left join pg_rewrite as r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
    left join pg_class as c on c.oid = coalesce(r.ev_class, case when d.classid = 'pg_class'::regclass then d.objid end)
    left join pg_attrdef as f on d.classid = 'pg_attrdef'::regclass and f.oid = d.objid
    left join pg_class as t on t.oid = f.adrelid
    left join pg_proc as p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
    left join pg_constraint as k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid
    cross join lateral pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) as o
    where d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass, 'pg_collation'::regclass,
            'pg_opclass'::regclass, 'pg_opfamily'::regclass)
        and 'after_hours'::regnamespace in (c.relnamespace, t.relnamespace, p.pronamespace, k.connamespace)
        and coalesce(o.schema, 'pg_catalog') not in ('pg_catalog', 'after_hours')
        and o.identity not in ('public.after_hours_sessions', 'public.after_hours_matches', 'public.after_hours_messages');
    if v_stray.uses is not null then
        raise exception using
            errcode = 'AH046',
            message = 'objects of schema after_hours use what stands in other schemas: ' || v_stray.uses,
            hint = 'They were made by hand, or under another search_path. Drop the object of ours that is named, then: '
                'delete from after_hours.sql_ledger; and repeat the upgrade.';
    end if;

    -- The files grant to others; the right of a routine's owner, which REVOKE … FROM that role takes away too, stands here.
    for v_stray in
        select p.oid::regprocedure::text as identity, pg_get_userbyid(p.proowner) as owner
        from pg_catalog.pg_proc as p
        where p.pronamespace = 'after_hours'::regnamespace and not has_function_privilege(p.proowner, p.oid, 'execute')
    loop
        execute format('grant execute on routine %s to %I', v_stray.identity, v_stray.owner);
    end loop;

    -- What ALTER DEFAULT PRIVILEGES of the migrating role has given to others on what is new. What others were given by hand stays,
    -- and doctor() names it.
    for v_stray in
        select distinct o.kind, o.identity, case when x.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(x.grantee)) end as grantee
        from (
            select 'routine', p.oid::regprocedure::text, p.proowner, p.proacl from pg_proc as p where p.pronamespace = 'after_hours'::regnamespace
            union all
            select 'table', c.oid::regclass::text, c.relowner, c.relacl
            from pg_class as c
            where c.relnamespace = 'after_hours'::regnamespace and c.relkind = 'v'
        ) as o (kind, identity, owner, acl)
        cross join lateral aclexplode(o.acl) as x
        where x.grantee <> o.owner
            and coalesce((select r.rolname from pg_roles as r where r.oid = x.grantee), 'public') <> all (array[
                'after_hours_eraser', 'after_hours_jobs', 'after_hours_app', 'after_hours_relay', 'after_hours_push', 'after_hours_moderator',
                'after_hours_dba', 'after_hours_owner'
            ])
            and not exists (select from after_hours.sql_objects as a where a.identity = o.identity)
    loop
        execute format('revoke all on %s %s from %s', v_stray.kind, v_stray.identity, v_stray.grantee);
    end loop;

    revoke create on schema after_hours from after_hours_jobs; -- grants.sql gave it for this apply

    delete from after_hours.sql_objects;
    insert into after_hours.sql_objects (kind, identity, definition_hash, state_hash)
    select o.kind, o.identity, o.definition_hash, o.state_hash
    from after_hours.list_sql_objects() as o
    where o.identity <> all (v_theirs);
end
$$;
