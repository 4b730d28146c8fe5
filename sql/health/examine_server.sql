create or replace function after_hours.examine_server()
returns table (subject text, ok boolean, finding text, advice text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_row record;
    v_text text;
begin
    -- Purpose: everything about server and role settings that is known to break jobs, as far as SQL can see.
    -- Returns: a row per subject. Owned by the jobs role (pg_monitor): others do not see the settings.
    -- Locks:   none.
    -- Access:  after_hours_jobs.
    subject := 'server version';
    ok := current_setting('server_version_num')::integer >= 150000;
    finding := 'PostgreSQL ' || current_setting('server_version');
    advice := case when not ok then 'upgrade to 15 or later: before, a NOTIFY in a procedure waits for the end of the CALL' end;
    return next;

    -- Settings that would end a run early or change what it reads, at every level where they can be set.
    for v_row in
        select w.name, w.wanted, w.why
        from (
            values
            ('statement_timeout', '0', 'it applies to a whole announce_loop and a whole purge'),
            ('transaction_timeout', '0', 'the server ends the session'),
            ('idle_in_transaction_session_timeout', '0', 'the server ends the session'),
            ('default_transaction_isolation', 'read committed', 'announcing must read after it has slept'),
            ('default_transaction_read_only', 'off', 'nothing could be written'),
            ('exit_on_error', 'off', 'a lock that is not had would end a run instead of being tried again')
        ) as w (name, wanted, why)
    loop
        subject := 'setting ' || v_row.name;
        select s.setting
        into v_text
        from (
            select split_part(c.item, '=', 2) as setting, (d.setrole <> 0)::integer * 2 + (d.setdatabase <> 0)::integer as weight
            from pg_db_role_setting as d
            cross join lateral unnest(d.setconfig) as c (item)
            where split_part(c.item, '=', 1) = v_row.name
                and d.setrole in (0, 'after_hours_jobs'::regrole)
                and d.setdatabase in (0, (select b.oid from pg_database as b where b.datname = current_database()))
            union all
            select p.reset_val, -1 from pg_settings as p where p.name = v_row.name and p.source not in ('database', 'user', 'database user')
        ) as s
        order by s.weight desc
        limit 1;
        continue when v_text is null;
        ok := v_text = v_row.wanted;
        finding := format('%s for after_hours_jobs', v_text);
        advice := case when not ok then format('%s: alter role after_hours_jobs in database %I set %s = %L;',
            v_row.why, current_database(), v_row.name, v_row.wanted) end;
        return next;
    end loop;

    subject := 'cancelled clients';
    ok := current_setting('client_connection_check_interval') <> '0';
    finding := 'client_connection_check_interval = ' || current_setting('client_connection_check_interval');
    advice := case when not ok then 'set it to e.g. 2s: then cron.unschedule() also ends a run in libpq mode' end;
    return next;

    subject := 'notification queue';
    ok := pg_notification_queue_usage() < 0.25;
    finding := format('%s %% in use', round((pg_notification_queue_usage() * 100)::numeric, 1));
    advice := case when not ok then 'end the oldest listener that is idle in transaction: see pg_stat_activity' end;
    return next;

    subject := 'old snapshots';
    select a.pid, a.usename, clock_timestamp() - a.xact_start as age
    into v_row
    from pg_stat_activity as a
    where a.backend_xmin is not null and a.datname = current_database() and a.xact_start < clock_timestamp() - interval '10 minutes'
    order by a.xact_start
    limit 1;
    ok := not found;
    finding := case when ok then 'none older than 10 minutes'
        else format('pid %s of %s, open for %s', v_row.pid, v_row.usename, v_row.age) end;
    advice := case when not ok
        then format('each pass re-reads index entries that VACUUM may not remove: select pg_terminate_backend(%s);', v_row.pid) end;
    return next;

    subject := 'job role';
    ok := (select r.rolcanlogin from pg_roles as r where r.rolname = 'after_hours_jobs')
        and (pg_has_role('after_hours_jobs', 'pg_monitor', 'member') or after_hours.is_ticker());
    finding := case when ok then 'may do what it needs' else 'may not log in, or is no member of pg_monitor' end;
    advice := case when not ok then 'alter role after_hours_jobs login; grant pg_monitor to after_hours_jobs;' end;
    return next;
end
$$;
comment on function after_hours.examine_server() is
'Properties of server and roles that are known to break jobs. Read it as select * from after_hours.doctor();';
alter function after_hours.examine_server() owner to after_hours_jobs;
revoke all on function after_hours.examine_server() from public;
grant execute on function after_hours.examine_server() to after_hours_owner;
