-- Roles belong to the cluster: made when missing, never dropped by us. Run before changes/ and again by each upgrade, as a dump
-- doesn't carry them: psql -v ON_ERROR_STOP=1 -1 -f sql/roles.sql
do $$
declare
    v_role record;
    v_setting record;
    v_is_ticker boolean := coalesce(pg_catalog.current_setting('after_hours.scheduler', true), '') operator(pg_catalog.=) 'ticker';
begin
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true); -- nothing that others made in public is found
    if to_regclass('after_hours.settings') is not null then
        execute 'select scheduler = ''ticker'' from after_hours.settings' into v_is_ticker;
    end if;
    for v_role in
        select w.rolname, w.kind, w.is_owner, r.oid is null as is_missing
        from (
            values
            ('after_hours_owner', 'nologin', true), ('after_hours_eraser', 'nologin', true), ('after_hours_jobs', 'login', true),
            ('after_hours_app', 'login', false), ('after_hours_relay', 'login', false), ('after_hours_push', 'login', false),
            ('after_hours_moderator', 'nologin', false), ('after_hours_dba', 'nologin', false)
        ) as w (rolname, kind, is_owner)
        left join pg_catalog.pg_roles as r on r.rolname = w.rolname
    loop
        if v_role.is_missing then
            execute format('create role %I %s', v_role.rolname, v_role.kind);
            raise notice 'created role %', v_role.rolname;
        end if;
        -- From PostgreSQL 16 on, the creator of a role is a member without the use of its rights and without SET ROLE.
        if v_role.is_owner and not pg_has_role(v_role.rolname, 'usage') then
            execute format('grant %I to %I', v_role.rolname, current_user);
        end if;
    end loop;
    if not pg_has_role('after_hours_jobs', 'pg_monitor', 'member') and (
        not v_is_ticker or pg_has_role('pg_monitor', 'member with admin option')
    ) then
        grant pg_monitor to after_hours_jobs;
    end if;
    -- The clock of a run is its own: a statement_timeout would count a whole announce_loop.
    for v_setting in
        select w.name, w.value
        from (
            values
            ('statement_timeout', '0', 150000), ('idle_in_transaction_session_timeout', '0', 150000), ('transaction_timeout', '0', 170000),
            ('default_transaction_isolation', 'read committed', 150000),
            ('exit_on_error', 'off', 150000) -- on: an error that is handled ends the session too
        ) as w (name, value, since)
        where current_setting('server_version_num')::integer >= w.since
            and not exists (
                select
                from pg_catalog.pg_db_role_setting as d
                where d.setrole = 'after_hours_jobs'::regrole and d.setdatabase = 0
                    and format('%s=%s', w.name, w.value) = any(d.setconfig)
            )
    loop
        execute format('alter role after_hours_jobs set %I = %L', v_setting.name, v_setting.value);
    end loop;
end
$$;
