-- Everything that an installation or an upgrade needs, asked at once, before anything changes. Changes nothing itself.
-- Run by alembic before its revisions, or by: psql -v ON_ERROR_STOP=1 -f sql/preflight.sql
-- Raises AH032 with all that is missing in DETAIL: statements to paste, under who must run them.
do $$
declare
    c_version constant integer := pg_catalog.current_setting('server_version_num')::integer;
    c_me constant name := current_user;
    c_database constant name := pg_catalog.current_database();
    c_server constant text := 'In the configuration of the server:';
    c_admin constant text := 'As a superuser or the administrator of the service, in this database:';
    c_owner constant text := 'As the owner of the tables:';
    c_you constant text := 'Before you repeat:';
    v_super boolean;
    v_createrole boolean;
    v_can boolean;
    v_jobs_by_admin boolean := false;
    v_has_cron boolean;
    v_is_ticker boolean;
    v_is_installed boolean := false;
    v_is_readable boolean;
    v_revision text;
    v_cron_in text;
    v_table record;
    v_row record;
    v_groups text[] := '{}';
    v_lines text[] := '{}';
begin
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true); -- nothing that others made in public is found
    select r.rolsuper, r.rolcreaterole into v_super, v_createrole from pg_catalog.pg_roles as r where r.rolname = c_me;

    -- the server and the database
    if c_version < 150000 then
        v_groups := v_groups || c_server;
        v_lines := v_lines || format(
            'PostgreSQL 15 or later, this server is %s: before 15 a procedure''s NOTIFY is sent only when the whole CALL ends',
            current_setting('server_version')
        );
    end if;
    if octet_length(c_database) > 36 then
        v_groups := v_groups || c_you;
        v_lines := v_lines || format('choose a database with a name of at most 36 bytes: pg_cron cuts job names at 63 bytes, and ours end '
            'in @%s', c_database);
    end if;
    if current_setting('server_encoding') <> 'UTF8' then
        v_groups := v_groups || c_you;
        v_lines := v_lines || format(
            'choose a database with encoding UTF8, this one has %s: create database ... encoding ''UTF8'' template template0;',
            current_setting('server_encoding')
        );
    end if;
    if pg_is_in_recovery() or current_setting('transaction_read_only') = 'on' then
        v_groups := v_groups || c_you;
        v_lines := v_lines || text 'connect to the primary, in a session that may write (set default_transaction_read_only = off;)';
    end if;
    for v_row in
        select s.name
        from (values ('row_security'), ('standard_conforming_strings')) as s (name)
        where current_setting(s.name) = 'off'
    loop
        v_groups := v_groups || c_you;
        v_lines := v_lines || format('set %s = on;', v_row.name);
    end loop;
    if not has_database_privilege(c_database, 'create') then
        v_groups := v_groups || c_admin;
        v_lines := v_lines || format('grant create on database %I to %I;', c_database, c_me);
    end if;
    if not has_schema_privilege('public', 'create') or not has_schema_privilege('public', 'usage') then
        v_groups := v_groups || c_admin;
        v_lines := v_lines || format('grant usage, create on schema public to %I;', c_me);
    end if;

    -- Roles. A missing one is created by the first revision if this role has CREATEROLE. Three of them will own our
    -- objects: their rights must be usable here, and from PostgreSQL 16 on SET ROLE as well; being a member is not enough.
    v_is_ticker := coalesce(current_setting('after_hours.scheduler', true), '') = 'ticker';
    v_is_readable := exists (
        select from pg_catalog.pg_namespace as n where n.nspname = 'after_hours' and has_schema_privilege(n.oid, 'usage')
    );
    if v_is_readable and to_regclass('after_hours.settings') is not null and has_table_privilege('after_hours.settings', 'select') then
        execute 'select scheduler = ''ticker'' from after_hours.settings' into v_is_ticker;
    end if;
    v_can := v_super or (c_version < 160000 and v_createrole) or pg_has_role('pg_monitor', 'member with admin option');
    if not v_can and not v_is_ticker and not exists (
        select
        from pg_catalog.pg_roles as r
        where r.rolname = 'after_hours_jobs' and pg_has_role(r.oid, 'pg_monitor', 'member')
    ) then
        v_jobs_by_admin := true;
    end if;
    for v_row in
        select w.rolname, w.kind, w.is_owner, r.oid
        from (
            values
            ('after_hours_owner', 'nologin', true), ('after_hours_eraser', 'nologin', true), ('after_hours_jobs', 'login', true),
            ('after_hours_app', 'login', false), ('after_hours_relay', 'login', false), ('after_hours_push', 'login', false),
            ('after_hours_moderator', 'nologin', false), ('after_hours_dba', 'nologin', false)
        ) as w (rolname, kind, is_owner)
        left join pg_catalog.pg_roles as r on r.rolname = w.rolname
    loop
        if v_row.oid is null and not v_super and (not v_createrole or (v_jobs_by_admin and v_row.rolname = 'after_hours_jobs')) then
            v_groups := v_groups || c_admin;
            v_lines := v_lines || format('create role %I %s;', v_row.rolname, v_row.kind);
            v_can := false;
        elsif v_row.oid is null or v_super or not v_row.is_owner then
            continue;
        elsif c_version < 160000 then
            v_can := v_createrole or pg_has_role(v_row.oid, 'usage');
        else
            -- with ADMIN OPTION the first revision grants itself what is missing
            execute 'select pg_has_role($1, ''member with admin option'') or (pg_has_role($1, ''usage'') and pg_has_role($1, ''set''))'
            into v_can
            using v_row.oid;
        end if;
        if not v_can and v_row.is_owner then
            v_groups := v_groups || c_admin;
            v_lines := v_lines || format('grant %I to %I%s;', v_row.rolname, c_me,
                case when c_version >= 160000 then ' with inherit true, set true' end);
        end if;
    end loop;
    if v_jobs_by_admin then
        v_groups := v_groups || c_admin;
        v_lines := v_lines || text 'grant pg_monitor to after_hours_jobs;';
    end if;
    -- a statement_timeout would count a whole announce_loop
    select string_agg(format('alter role after_hours_jobs set %s = %L;', w.name, w.value), ' ') as ddl
    into v_row
    from (
        values
        ('statement_timeout', '0', 150000), ('idle_in_transaction_session_timeout', '0', 150000), ('transaction_timeout', '0', 170000),
        ('default_transaction_isolation', 'read committed', 150000), ('exit_on_error', 'off', 150000)
    ) as w (name, value, since)
    where c_version >= w.since and not exists (
        select
        from pg_catalog.pg_db_role_setting as d
        join pg_catalog.pg_roles as r on r.oid = d.setrole and r.rolname = 'after_hours_jobs'
        where d.setdatabase = 0 and format('%s=%s', w.name, w.value) = any(d.setconfig)
    );
    if v_row.ddl is not null and not v_super and (v_jobs_by_admin or not v_createrole or (
        c_version >= 160000 and exists (
            select
            from pg_catalog.pg_roles as r
            where r.rolname = 'after_hours_jobs' and not pg_has_role(r.oid, 'member with admin option')
        )
    )) then
        v_groups := v_groups || c_admin;
        v_lines := v_lines || v_row.ddl;
    end if;

    -- CONNECT and USAGE that were revoked from PUBLIC: grants.sql grants them to our roles, if it may
    if not has_database_privilege('public', c_database, 'connect') and not v_super and not (
        select pg_has_role(d.datdba, 'usage') from pg_catalog.pg_database as d where d.datname = c_database
    ) then
        for v_row in
            select w.rolname
            from (values ('after_hours_jobs'), ('after_hours_app'), ('after_hours_relay'), ('after_hours_push')) as w (rolname)
            left join pg_catalog.pg_roles as r on r.rolname = w.rolname
            where r.oid is null or not has_database_privilege(r.oid, c_database, 'connect')
        loop
            v_groups := v_groups || c_admin;
            v_lines := v_lines || format('grant connect on database %I to %I;', c_database, v_row.rolname);
        end loop;
    end if;

    -- pg_cron: its settings are there if the server has loaded it, and shown to those who may read all settings
    v_has_cron := exists (select from pg_catalog.pg_extension as e where e.extname = 'pg_cron');
    v_can := v_super or pg_has_role('pg_read_all_settings', 'usage');
    v_cron_in := (select s.setting from pg_catalog.pg_settings as s where s.name = 'cron.database_name');
    if v_is_ticker then
        null; -- after-hours tick runs the jobs
    elsif v_can and v_cron_in is null then
        v_groups := v_groups || c_server;
        v_lines := v_lines || format('shared_preload_libraries = ''pg_cron'' and cron.database_name = ''%s'', then restart '
            '(Debian: apt-get install postgresql-%s-cron). Without pg_cron: after-hours migrate --ticker', c_database, c_version / 10000);
    elsif v_cron_in <> c_database then
        v_groups := v_groups || c_server;
        v_lines := v_lines || format('cron.database_name = ''%s'', then restart; or install into %s, where pg_cron runs. Without pg_cron: after-hours migrate --ticker',
            c_database, v_cron_in);
    elsif not v_has_cron then
        begin
            create extension pg_cron;
            raise no_data_found; -- it works: undo it
        exception
            when no_data_found then
                null;
            when others then
                v_groups := v_groups || c_admin;
                v_lines := v_lines || format(
                    'create extension pg_cron; grant usage on schema cron to %I with grant option; -- tried here: %s. '
                        'Without pg_cron: after-hours migrate --ticker', c_me, sqlerrm
                );
        end;
    elsif not has_schema_privilege('cron', 'usage with grant option') and not exists (
        select
        from pg_catalog.pg_roles as r
        where r.rolname = 'after_hours_jobs' and has_schema_privilege(r.oid, 'cron', 'usage')
    ) then
        v_groups := v_groups || c_admin;
        v_lines := v_lines || format('grant usage on schema cron to %I with grant option;', c_me);
    end if;

    -- An existing installation: what its revisions made may have been dropped since, and a restore may have given it another owner.
    if v_is_readable and to_regclass('after_hours.sql_ledger') is not null and has_table_privilege('after_hours.sql_ledger', 'select') then
        execute 'select l.revision from after_hours.sql_ledger as l order by l.id desc limit 1' into v_revision;
        v_is_installed := v_revision is not null;
    end if;
    if to_regclass('public.after_hours_alembic_version') is not null
        and has_table_privilege('public.after_hours_alembic_version', 'select') then
        execute 'select coalesce(max(v.version_num), $1) from public.after_hours_alembic_version as v' into v_revision using v_revision;
    end if;
    for v_row in
        select o.what, pg_get_userbyid(o.owner) as owner
        from (
            select 'schema after_hours' as what, n.nspowner as owner from pg_catalog.pg_namespace as n where n.nspname = 'after_hours'
            union all
            select format('%s %s', case c.relkind when 'v' then 'view' else 'table' end, c.oid::regclass), c.relowner
            from pg_catalog.pg_class as c
            where c.relnamespace = to_regnamespace('after_hours') and c.relkind in ('r', 'v')
            union all
            select 'routine ' || p.oid::regprocedure, p.proowner
            from pg_catalog.pg_proc as p
            where p.pronamespace = to_regnamespace('after_hours')
        ) as o
        where not v_super and not pg_has_role(o.owner, 'usage') and pg_get_userbyid(o.owner) not in (
            'after_hours_owner', 'after_hours_jobs', 'after_hours_eraser' -- asked for above
        )
    loop
        v_groups := v_groups || c_admin;
        v_lines := v_lines || format('alter %s owner to after_hours_owner; -- it belongs to %s', v_row.what, v_row.owner);
    end loop;
    for v_row in
        select w.name, w.ddl
        from (
            values
            ('after_hours_sessions_deadline_idx', 'public.after_hours_sessions (least(ended_at, expires_at), id)'),
            ('after_hours_sessions_user_idx', 'public.after_hours_sessions (user_id, expires_at)'),
            ('after_hours_matches_overdue_idx', 'public.after_hours_matches (expires_at, id) where converted_to_match_id is null')
        ) as w (name, ddl)
        where v_is_installed and v_revision >= '0002' and to_regclass('public.' || w.name) is null
            and to_regclass('public.after_hours_sessions') is not null and to_regclass('public.after_hours_matches') is not null
    loop
        v_groups := v_groups || c_owner;
        v_lines := v_lines || format('create index concurrently %I on %s; -- it was there', v_row.name, v_row.ddl);
    end loop;

    -- The application's tables, where they exist: their place, kind, owner, columns, keys.
    for v_table in
        select w.tab, c.oid, c.relkind, c.relowner, c.relrowsecurity, to_regclass(w.tab) as by_path,
            (select n.nspname from pg_catalog.pg_class as o join pg_catalog.pg_namespace as n on n.oid = o.relnamespace
                where o.oid = to_regclass(w.tab)) as by_path_schema
        from (values ('after_hours_sessions'), ('after_hours_matches'), ('after_hours_messages')) as w (tab)
        left join pg_catalog.pg_class as c on c.oid = to_regclass('public.' || w.tab)
    loop
        if v_table.by_path::oid is distinct from v_table.oid and v_table.by_path is not null then
            v_groups := v_groups || c_owner;
            v_lines := v_lines || format('alter table %I.%I set schema public; -- the application finds its table there, not in public',
                v_table.by_path_schema, v_table.tab);
        end if;
        if v_table.oid is null then
            continue;
        end if;
        if v_table.relkind <> 'r' and not (v_table.relkind = 'p' and v_table.tab = 'after_hours_messages') then
            v_groups := v_groups || c_owner;
            v_lines := v_lines || format('public.%I must be a plain table, it is %s', v_table.tab, case v_table.relkind
                when 'p' then 'partitioned' when 'v' then 'a view' when 'm' then 'a materialized view' when 'f' then 'a foreign table'
                else 'of another kind' end);
            continue;
        end if;
        for v_row in
            select i.inhrelid::regclass as child, i.inhparent::regclass as parent
            from pg_catalog.pg_inherits as i
            where v_table.relkind = 'r' and v_table.oid in (i.inhrelid, i.inhparent)
        loop
            v_groups := v_groups || c_owner;
            v_lines := v_lines || format('alter table %s no inherit %s; -- rows of two tables would be read as one''s', v_row.child, v_row.parent);
        end loop;
        if not pg_has_role(v_table.relowner, 'usage') then
            v_groups := v_groups || c_admin;
            v_lines := v_lines || format('grant %I to %I; -- owner of public.%I', pg_get_userbyid(v_table.relowner), c_me, v_table.tab);
        end if;
        if v_table.relrowsecurity then
            for v_row in
                select w.rolname
                from (values ('after_hours_owner'), ('after_hours_eraser')) as w (rolname)
                where not exists (select from pg_catalog.pg_roles as r where r.rolname = w.rolname and (r.rolbypassrls or v_super))
            loop
                v_groups := v_groups || c_admin;
                v_lines := v_lines || format('alter role %I bypassrls; -- public.%I has row security', v_row.rolname, v_table.tab);
            end loop;
        end if;
        for v_row in
            select w.col, w.typ, w.is_needed, a.attnotnull, a.attgenerated, format_type(a.atttypid, a.atttypmod) as has
            from (
                values
                ('after_hours_sessions', 'id', 'uuid', true), ('after_hours_sessions', 'user_id', 'uuid', true),
                ('after_hours_sessions', 'started_at', 'timestamp with time zone', true),
                ('after_hours_sessions', 'expires_at', 'timestamp with time zone', true),
                ('after_hours_sessions', 'ended_at', 'timestamp with time zone', null),
                ('after_hours_sessions', 'end_reason', 'text', null),
                ('after_hours_matches', 'id', 'uuid', true), ('after_hours_matches', 'user_a', 'uuid', false),
                ('after_hours_matches', 'user_b', 'uuid', false),
                ('after_hours_matches', 'created_at', 'timestamp with time zone', false),
                ('after_hours_matches', 'expires_at', 'timestamp with time zone', true),
                ('after_hours_matches', 'converted_to_match_id', 'uuid', false),
                ('after_hours_messages', 'match_id', 'uuid', true), ('after_hours_messages', 'id', 'bigint', false),
                ('after_hours_messages', 'sender_id', 'uuid', false), ('after_hours_messages', 'body', 'text', false),
                ('after_hours_messages', 'created_at', 'timestamp with time zone', false)
            ) as w (tab, col, typ, is_needed) -- is_needed: not null; null: added by us if missing
            left join pg_catalog.pg_attribute as a on a.attrelid = v_table.oid and a.attname = w.col and not a.attisdropped
            where w.tab = v_table.tab
        loop
            if v_row.has is null and v_row.is_needed is null then
                if v_is_installed then
                    v_groups := v_groups || c_owner;
                    v_lines := v_lines || format('alter table public.%I add column %I %s; -- it was there', v_table.tab, v_row.col, v_row.typ);
                end if;
                continue;
            end if;
            if v_row.has is distinct from v_row.typ and not (v_row.typ = 'text' and coalesce(v_row.has, '') like 'character varying%')
                and v_row.has is distinct from 'timestamp(6) with time zone' then
                v_groups := v_groups || c_owner;
                v_lines := v_lines || format('public.%I.%I is %s, must be %s%s', v_table.tab, v_row.col, coalesce(v_row.has, 'missing'),
                    v_row.typ, case when v_row.has like 'timestamp(%' then
                        format(': alter table public.%I alter column %I type timestamptz;', v_table.tab, v_row.col) end);
            elsif v_row.is_needed and not v_row.attnotnull then
                v_groups := v_groups || c_owner;
                v_lines := v_lines || format('alter table public.%I alter column %I set not null;', v_table.tab, v_row.col);
            elsif v_row.attgenerated <> '' and v_row.col in ('ended_at', 'end_reason') then
                v_groups := v_groups || c_owner;
                v_lines := v_lines || format('public.%I.%I is generated, but it is written to', v_table.tab, v_row.col);
            end if;
        end loop;
        if v_table.tab <> 'after_hours_messages' and not exists (
            select
            from pg_catalog.pg_index as i
            join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] and a.attname = 'id'
            where i.indrelid = v_table.oid and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indnkeyatts = 1
        ) then
            v_groups := v_groups || c_owner;
            v_lines := v_lines || format('alter table public.%I add primary key (id);', v_table.tab);
        end if;
        if v_table.tab = 'after_hours_messages' and not exists (
            select
            from pg_catalog.pg_index as i
            join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] and a.attname = 'match_id'
            where i.indrelid = v_table.oid and i.indisvalid and i.indpred is null
        ) then
            v_groups := v_groups || c_owner;
            v_lines := v_lines || format('create index%s on public.after_hours_messages (match_id); -- it has no index led by match_id',
                case when v_table.relkind = 'r' then ' concurrently' end);
        end if;
        if v_table.relkind = 'p' and not exists (
            select
            from pg_catalog.pg_constraint as k
            where k.conrelid = v_table.oid and k.contype = 'f' and k.confrelid = to_regclass('public.after_hours_matches')
        ) then
            v_groups := v_groups || c_owner;
            v_lines := v_lines || text 'alter table public.after_hours_messages add foreign key (match_id) '
                'references public.after_hours_matches (id); -- on a partitioned table it can''t be added NOT VALID';
        end if;
    end loop;

    if cardinality(v_lines) = 0 then
        return;
    end if;
    raise exception using
        errcode = 'AH032',
        message = format(
            'After Hours can''t be installed or upgraded in database %s by role %s yet; nothing has been changed', c_database, c_me
        ),
        detail = (
            select string_agg(e'\n' || g.who || g.lines, '' order by g.nr)
            from (
                select f.who, min(f.nr) as nr, string_agg(e'\n    ' || f.line, '' order by f.nr) as lines
                from unnest(v_groups, v_lines) with ordinality as f (who, line, nr)
                group by f.who
            ) as g
        ),
        hint = 'Do what DETAIL says, then repeat. To ask again without installing: psql -f sql/preflight.sql';
end
$$;
