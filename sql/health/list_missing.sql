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

    wanted_rights (grantee, nsp, tab, privilege, col) as (
        values
        ('after_hours_owner', 'public', 'after_hours_sessions', 'select', null),
        ('after_hours_owner', 'public', 'after_hours_sessions', 'update', 'end_reason'),
        ('after_hours_owner', 'public', 'after_hours_matches', 'select', null),
        ('after_hours_owner', 'public', 'after_hours_matches', 'references', null),
        ('after_hours_owner', 'public', 'after_hours_matches', 'update', 'expires_at'),
        ('after_hours_owner', 'public', 'after_hours_messages', 'select', null),
        ('after_hours_eraser', 'public', 'after_hours_matches', 'select', null),
        ('after_hours_eraser', 'public', 'after_hours_matches', 'delete', null),
        ('after_hours_eraser', 'public', 'after_hours_messages', 'select', null),
        ('after_hours_eraser', 'public', 'after_hours_messages', 'delete', null),
        ('after_hours_jobs', 'cron', 'job', 'select', null),
        ('after_hours_jobs', 'cron', 'job_run_details', 'select', null),
        ('after_hours_jobs', 'cron', 'job_run_details', 'delete', null)
        union all
        select 'after_hours_app', 'public', t.tab, p.privilege, null
        from (values ('after_hours_sessions'), ('after_hours_matches'), ('after_hours_messages')) as t (tab)
        cross join (values ('select'), ('insert'), ('update')) as p (privilege)
    ),

    wanted_usage (grantee, nsp) as (
        values
        ('after_hours_owner', 'public'), ('after_hours_eraser', 'public'), ('after_hours_app', 'public'), ('after_hours_jobs', 'cron'),
        ('after_hours_eraser', 'after_hours'), ('after_hours_jobs', 'after_hours'), ('after_hours_app', 'after_hours'),
        ('after_hours_relay', 'after_hours'), ('after_hours_push', 'after_hours'),
        ('after_hours_moderator', 'after_hours'), ('after_hours_dba', 'after_hours')
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
    select t.name, format('%s%s for %s', w.privilege, ' (' || w.col || ')', w.grantee),
        format('grant %s%s on %s to %I;', w.privilege, ' (' || w.col || ')', t.name, w.grantee)
    from wanted_rights as w
    join tables as t on t.nsp = w.nsp and t.tab = w.tab
    join pg_roles as r on r.rolname = w.grantee
    left join pg_attribute as a on a.attrelid = t.oid and a.attname = w.col and not a.attisdropped
    where case
        when w.col is null then not has_table_privilege(r.oid, t.oid, w.privilege)
        else not has_column_privilege(r.oid, t.oid, a.attnum, w.privilege)
    end
    union all
    select t.name, 'row security hides rows from ' || r.rolname, format('alter role %I bypassrls;', r.rolname)
    from tables as t
    join pg_roles as r on r.rolname = 'after_hours_owner' or (r.rolname = 'after_hours_eraser' and t.tab <> 'after_hours_sessions')
    where t.nsp = 'public' and t.tab in (select c.tab from wanted_columns as c) and t.relrowsecurity
        and not r.rolbypassrls and not r.rolsuper
    union all
    select 'schema ' || n.nspname, 'usage for ' || w.grantee, format('grant usage on schema %I to %I;', n.nspname, w.grantee)
    from wanted_usage as w
    join pg_namespace as n on n.nspname = w.nsp
    join pg_roles as r on r.rolname = w.grantee
    where not has_schema_privilege(r.oid, n.oid, 'usage')
    union all
    select 'database ' || current_database(), 'connect for ' || r.rolname,
        format('grant connect on database %I to %I;', current_database(), r.rolname)
    from pg_roles as r
    where r.rolname in ('after_hours_jobs', 'after_hours_app', 'after_hours_relay', 'after_hours_push')
        and not has_database_privilege(r.oid, current_database(), 'connect')
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
