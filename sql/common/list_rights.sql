create or replace function after_hours.list_rights()
returns table (grantee name, object text, privilege text, is_granted boolean, is_had boolean, statement text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: every right on schemas, tables and the database that our roles need: the only list of them. grants.sql gives what it
    --          names, list_missing() says what is missing. Those on routines and views stand in their own files.
    -- Returns: a row per grantee, object and privilege (with its column): whether it is granted to that role itself, whether the
    --          role has it at all (through PUBLIC, as owner or superuser), and the statement that gives it.
    -- Locks:   none; reads the catalog by name, without a cast to regclass: that cast needs rights as well.
    -- Access:  after_hours_dba, after_hours_jobs.
    with declared (grantee, nsp, tab, privilege, cols) as (
        values
        -- The owner role reads the application's tables. UPDATE of one column, which it never writes: without it SELECT … FOR SHARE
        -- or FOR UPDATE is refused.
        ('after_hours_owner', 'public', 'after_hours_sessions', 'select', null),
        ('after_hours_owner', 'public', 'after_hours_sessions', 'update', 'end_reason'),
        ('after_hours_owner', 'public', 'after_hours_matches', 'select', null),
        ('after_hours_owner', 'public', 'after_hours_matches', 'references', null),
        ('after_hours_owner', 'public', 'after_hours_matches', 'update', 'expires_at'),
        ('after_hours_owner', 'public', 'after_hours_messages', 'select', null),
        -- Code of the tables' owner (triggers, rules, expressions) runs with the rights of the role that changes rows: it has these
        -- and no other.
        ('after_hours_eraser', 'public', 'after_hours_matches', 'select', null),
        ('after_hours_eraser', 'public', 'after_hours_matches', 'delete', null),
        ('after_hours_eraser', 'public', 'after_hours_messages', 'select', null),
        ('after_hours_eraser', 'public', 'after_hours_messages', 'delete', null),
        -- The application: no DELETE, and nothing that a purge goes by but the expiry and the save
        ('after_hours_app', 'public', 'after_hours_sessions', 'select', null),
        ('after_hours_app', 'public', 'after_hours_sessions', 'insert', null),
        ('after_hours_app', 'public', 'after_hours_sessions', 'update', 'expires_at, ended_at, end_reason'),
        ('after_hours_app', 'public', 'after_hours_matches', 'select', null),
        ('after_hours_app', 'public', 'after_hours_matches', 'insert', null),
        ('after_hours_app', 'public', 'after_hours_matches', 'update', 'expires_at, converted_to_match_id'),
        ('after_hours_app', 'public', 'after_hours_messages', 'select', null),
        ('after_hours_app', 'public', 'after_hours_messages', 'insert', null),
        -- pg_cron gives these to PUBLIC, and hides other roles' rows by row security
        ('after_hours_jobs', 'cron', 'job', 'select', null),
        ('after_hours_jobs', 'cron', 'job_run_details', 'select', null),
        ('after_hours_jobs', 'cron', 'job_run_details', 'delete', null),
        -- what its functions and procedures read as themselves
        ('after_hours_jobs', 'after_hours', 'evidence_chain', 'select', null),
        ('after_hours_jobs', 'after_hours', 'settings', 'select', null),
        ('after_hours_jobs', 'after_hours', 'job_plan', 'select', null),
        ('after_hours_jobs', 'after_hours', 'tickers', 'select', null),
        ('after_hours_jobs', 'after_hours', 'ticker_runs', 'select', null),
        -- moderators see what is held, and what was
        ('after_hours_moderator', 'after_hours', 'holds', 'select', null),
        ('after_hours_moderator', 'after_hours', 'hold_log', 'select', null),
        ('after_hours_dba', 'after_hours', 'push_targets', 'insert', null),
        ('after_hours_dba', 'after_hours', 'push_targets', 'update', null),
        ('after_hours_dba', 'after_hours', 'push_targets', 'delete', null)
        union all
        -- the DBA reads every table of the stored logic and changes policy; rows are changed by routines only
        select 'after_hours_dba', 'after_hours', c.relname, 'select', null
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'after_hours' and c.relkind = 'r'
        union all
        -- by column: UPDATE on a table allows LOCK TABLE as well, and with this one locked nothing is announced
        select 'after_hours_dba', 'after_hours', 'settings', 'update', string_agg(a.attname, ', ' order by a.attnum)
        from pg_attribute as a
        join pg_class as c on c.oid = a.attrelid and c.relname = 'settings'
        join pg_namespace as n on n.oid = c.relnamespace and n.nspname = 'after_hours'
        where a.attnum > 0 and not a.attisdropped
    ),

    on_tables as (
        select d.grantee, d.nsp, d.tab, d.privilege, l.col, c.oid, c.relacl, a.attacl, a.attnum
        from declared as d
        join pg_namespace as n on n.nspname = d.nsp
        join pg_class as c on c.relnamespace = n.oid and c.relname = d.tab
        left join lateral string_to_table(d.cols, ', ') as l (col) on true
        left join pg_attribute as a on a.attrelid = c.oid and a.attname = l.col and not a.attisdropped
        where d.cols is null or a.attnum is not null
    ),

    on_schemas (grantee, nsp) as (
        values
        ('after_hours_owner', 'public'), ('after_hours_eraser', 'public'), ('after_hours_app', 'public'), ('after_hours_jobs', 'cron'),
        ('after_hours_eraser', 'after_hours'), ('after_hours_jobs', 'after_hours'), ('after_hours_app', 'after_hours'),
        ('after_hours_relay', 'after_hours'), ('after_hours_push', 'after_hours'),
        ('after_hours_moderator', 'after_hours'), ('after_hours_dba', 'after_hours')
    )

    select
        r.rolname, format('%I.%I', t.nsp, t.tab), t.privilege || coalesce(' (' || t.col || ')', ''),
        exists (
            select
            from aclexplode(t.relacl) as x
            where x.grantee = r.oid and lower(x.privilege_type) = t.privilege
        ) or exists (
            select
            from aclexplode(t.attacl) as x
            where x.grantee = r.oid and lower(x.privilege_type) = t.privilege
        ),
        case
            when t.col is null then has_table_privilege(r.oid, t.oid, t.privilege)
            else has_column_privilege(r.oid, t.oid, t.attnum, t.privilege)
        end,
        format('grant %s%s on %I.%I to %I;', t.privilege, ' (' || quote_ident(t.col) || ')', t.nsp, t.tab, r.rolname)
    from on_tables as t
    join pg_roles as r on r.rolname = t.grantee
    union all
    select
        r.rolname, 'schema ' || n.nspname, 'usage',
        exists (select from aclexplode(n.nspacl) as x where x.grantee = r.oid and x.privilege_type = 'USAGE'),
        has_schema_privilege(r.oid, n.oid, 'usage'), format('grant usage on schema %I to %I;', n.nspname, r.rolname)
    from on_schemas as s
    join pg_namespace as n on n.nspname = s.nsp
    join pg_roles as r on r.rolname = s.grantee
    union all
    select
        r.rolname, 'database ' || d.datname, 'connect',
        exists (select from aclexplode(d.datacl) as x where x.grantee = r.oid and x.privilege_type = 'CONNECT'),
        has_database_privilege(r.oid, d.oid, 'connect'), format('grant connect on database %I to %I;', d.datname, r.rolname)
    from pg_database as d
    join pg_roles as r on r.rolname in ('after_hours_jobs', 'after_hours_app', 'after_hours_relay', 'after_hours_push')
    where d.datname = current_database();
$$;
comment on function after_hours.list_rights() is
'Every right on schemas, tables and the database that our roles need: who, on what, which; whether it is granted to that role '
'itself, whether the role has it at all, and the statement that gives it. grants.sql and list_missing() follow it.';
alter function after_hours.list_rights() owner to after_hours_owner;
revoke all on function after_hours.list_rights() from public;
grant execute on function after_hours.list_rights() to after_hours_dba, after_hours_jobs;
