create or replace function after_hours.list_missing()
returns table (object text, missing text, next_command text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: what our roles need and do not have: tables and columns of the application, rights on them, on schemas, on
    --          the database, on pg_cron and on our own routines. Scripts and people that change rights or tables do not
    --          know of us.
    -- Returns: a row each, with the statement that gives it back. Reads the catalog by name, without a cast to regclass:
    --          that cast needs rights as well.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    with wanted_columns (tab, col, typ) as (
        values
        ('after_hours_sessions', 'id', 'uuid'), ('after_hours_sessions', 'user_id', 'uuid'),
        ('after_hours_sessions', 'started_at', 'timestamptz'), ('after_hours_sessions', 'expires_at', 'timestamptz'),
        ('after_hours_sessions', 'ended_at', 'timestamptz'), ('after_hours_sessions', 'end_reason', 'text'),
        ('after_hours_matches', 'id', 'uuid'), ('after_hours_matches', 'user_a', 'uuid'), ('after_hours_matches', 'user_b', 'uuid'),
        ('after_hours_matches', 'created_at', 'timestamptz'), ('after_hours_matches', 'expires_at', 'timestamptz'),
        ('after_hours_matches', 'converted_to_match_id', 'uuid'),
        ('after_hours_messages', 'match_id', 'uuid'), ('after_hours_messages', 'id', 'bigint'),
        ('after_hours_messages', 'sender_id', 'uuid'), ('after_hours_messages', 'body', 'text'),
        ('after_hours_messages', 'created_at', 'timestamptz')
    ),

    tables as (
        select n.nspname as nsp, c.relname as tab, c.oid, c.relrowsecurity, format('%I.%I', n.nspname, c.relname) as name
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname in ('public', 'cron') and c.relkind in ('r', 'p')
    )

    select w.nsp_tab, 'the table is missing', 'rename or restore it: alter table … rename to ' || w.tab || ';'
    from (select distinct 'public.' || tab as nsp_tab, tab from wanted_columns) as w
    where not exists (select from tables as t where t.nsp = 'public' and t.tab = w.tab)
    union all
    select t.name, 'column ' || w.col,
        format('rename it back (alter table %s rename column … to %I;) or: alter table %s add column %I %s;',
            t.name, w.col, t.name, w.col, w.typ)
    from wanted_columns as w
    join tables as t on t.nsp = 'public' and t.tab = w.tab
    where not exists (
        select from pg_attribute as a where a.attrelid = t.oid and a.attname = w.col and a.attnum > 0 and not a.attisdropped
    )
    union all
    select l.object, format('%s for %s', l.privilege, l.grantee), l.statement
    from after_hours.list_rights() as l
    where not l.is_had
    union all
    select t.name, format('its owner was %s, now it is %s', o.owner, pg_get_userbyid(c.relowner)),
        format('alter table %s owner to %I; or, if that is right, note it: after-hours migrate', t.name, o.owner)
    from after_hours.noted_owners as o
    join tables as t on t.nsp = 'public' and t.tab = o.tab
    join pg_class as c on c.oid = t.oid
    where pg_get_userbyid(c.relowner) <> o.owner
    union all
    select t.name, 'row security hides rows from ' || r.rolname, format('alter role %I bypassrls;', r.rolname)
    from tables as t
    join pg_roles as r on r.rolname = 'after_hours_owner' or (r.rolname = 'after_hours_eraser' and t.tab <> 'after_hours_sessions')
    where t.nsp = 'public' and t.tab in (select c.tab from wanted_columns as c) and t.relrowsecurity
        and not r.rolbypassrls and not r.rolsuper
    union all
    select
        o.object, format('its owner is %s', o.owner::regrole), format('alter %s owner to after_hours_owner;', o.object)
    from (
        select 'schema after_hours', n.nspowner from pg_namespace as n where n.nspname = 'after_hours'
        union all
        select format('table after_hours.%I', c.relname), c.relowner
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace and n.nspname = 'after_hours'
        where c.relkind = 'r'
    ) as o (object, owner)
    where o.owner is distinct from (select r.oid from pg_roles as r where r.rolname = 'after_hours_owner')
    union all
    -- who may execute a routine stands in its header, and a test compares that with the grants
    select 'routine ' || p.oid::regprocedure, 'execute for ' || r.rolname,
        format('grant execute on routine %s to %I;', p.oid::regprocedure, r.rolname)
    from pg_proc as p
    cross join lateral regexp_split_to_table(substring(p.prosrc from '-- Access:  ([a-z_, ]+)\.'), ', ') as h (grantee)
    join pg_roles as r on r.rolname = h.grantee
    where p.pronamespace = 'after_hours'::regnamespace and not has_function_privilege(r.oid, p.oid, 'execute')
    union all
    select 'role after_hours_jobs', 'membership in pg_monitor', 'grant pg_monitor to after_hours_jobs;'
    where not pg_has_role('after_hours_jobs', 'pg_monitor', 'usage') and not after_hours.is_ticker()
    union all
    select 'extension pg_cron', 'it is not installed in this database',
        'create extension pg_cron; grant usage on schema cron to after_hours_jobs; then alembic upgrade head'
    where not exists (select from pg_extension as e where e.extname = 'pg_cron') and not after_hours.is_ticker();
$$;
comment on function after_hours.list_missing() is
'Tables, columns and rights that our roles need and do not have, each with the statement that gives it back. Empty is '
'good. Part of health (row access) and of doctor().';
alter function after_hours.list_missing() owner to after_hours_owner;
revoke all on function after_hours.list_missing() from public;
grant execute on function after_hours.list_missing() to after_hours_dba;
