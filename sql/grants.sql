-- Who may do what with schemas and tables; the grants of each routine and view stand in its own file.
-- Our owner role gets exactly these rights on the application's tables, and no others. UPDATE of one column,
-- which it never writes: without it SELECT … FOR SHARE or FOR UPDATE is refused.
grant select, update (end_reason) on public.after_hours_sessions to after_hours_owner;
grant select, references, update (expires_at) on public.after_hours_matches to after_hours_owner;
grant select on public.after_hours_messages to after_hours_owner;
-- Code of the tables' owner (triggers, rules, expressions) runs with the rights of the role that changes rows:
-- after_hours_eraser has these and no other.
grant select, delete on public.after_hours_matches, public.after_hours_messages to after_hours_eraser;

-- the application: DML without DELETE
grant select, insert, update on public.after_hours_sessions, public.after_hours_matches, public.after_hours_messages
to after_hours_app;

grant usage on schema after_hours to after_hours_eraser, after_hours_jobs, after_hours_app, after_hours_relay,
    after_hours_push, after_hours_moderator, after_hours_dba;
-- What hardening scripts take from PUBLIC, and our roles need. Each apply gives it again where it is missing.
do $$
declare
    v_role text;
begin
    foreach v_role in array array['after_hours_jobs', 'after_hours_app', 'after_hours_relay', 'after_hours_push'] loop
        if not has_database_privilege(v_role, current_database(), 'connect') then
            execute format('grant connect on database %I to %I', current_database(), v_role);
        end if;
    end loop;
    foreach v_role in array array['after_hours_owner', 'after_hours_eraser', 'after_hours_app'] loop
        if not has_schema_privilege(v_role, 'public', 'usage') then
            execute format('grant usage on schema public to %I', v_role);
        end if;
    end loop;
end
$$;
grant create on schema after_hours to after_hours_jobs; -- it owns the functions that read pg_cron's tables
do $$
begin
    if to_regnamespace('cron') is null then
        return; -- after-hours tick runs the jobs
    end if;
    -- a superuser's to give: 0001 asked for it where we are not one
    if not has_schema_privilege('after_hours_jobs', 'cron', 'usage') then
        grant usage on schema cron to after_hours_jobs;
    end if;
    -- pg_cron gives these to PUBLIC, and hides other roles' rows by row security
    if not has_table_privilege('after_hours_jobs', 'cron.job', 'select')
        or not has_table_privilege('after_hours_jobs', 'cron.job_run_details', 'select')
        or not has_table_privilege('after_hours_jobs', 'cron.job_run_details', 'delete') then
        grant select on cron.job to after_hours_jobs;
        grant select, delete on cron.job_run_details to after_hours_jobs;
    end if;
end
$$;

-- The DBA reads every table of the stored logic and changes policy; rows are changed by routines only.
do $$
declare
    v_table regclass;
begin
    -- not ON ALL TABLES, which takes in views: their grants stand in their files
    for v_table in
        select c.oid::regclass from pg_catalog.pg_class as c
        where c.relnamespace = 'after_hours'::regnamespace and c.relkind = 'r'
    loop
        execute format('grant select on %s to after_hours_dba', v_table);
    end loop;
end
$$;
-- by column: UPDATE on a table allows LOCK TABLE as well, and with this one locked nothing is announced
do $$
begin
    revoke update on after_hours.settings from after_hours_dba;
    revoke delete on after_hours.set_aside from after_hours_dba;
    execute (
        select format('grant update (%s) on after_hours.settings to after_hours_dba', string_agg(quote_ident(a.attname), ', '))
        from pg_catalog.pg_attribute as a
        where a.attrelid = 'after_hours.settings'::regclass and a.attnum > 0 and not a.attisdropped
    );
end
$$;
grant insert, update, delete on after_hours.push_targets to after_hours_dba;
-- moderators see what is held, and what was
grant select on after_hours.holds, after_hours.hold_log to after_hours_moderator;
-- what its functions and procedures read as themselves
grant select on after_hours.evidence_chain, after_hours.settings, after_hours.job_plan, after_hours.tickers, after_hours.ticker_runs
to after_hours_jobs;
