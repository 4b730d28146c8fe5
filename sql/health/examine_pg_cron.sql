create or replace function after_hours.examine_pg_cron()
returns table (subject text, ok boolean, finding text, advice text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_version text := (select e.extversion from pg_extension as e where e.extname = 'pg_cron');
    v_workers boolean;
    v_count integer;
begin
    -- Purpose: everything about pg_cron that is known to break jobs.
    -- Returns: a row per subject; none where after-hours tick runs the jobs. Owned by the jobs role (pg_monitor): others do not
    --          see the settings.
    -- Locks:   none.
    -- Access:  after_hours_jobs.
    if after_hours.is_ticker() then
        return;
    end if;
    v_workers := coalesce(current_setting('cron.use_background_workers', true), 'off')::boolean;
    subject := 'pg_cron';
    ok := v_version is not null and current_setting('shared_preload_libraries') ~ '\mpg_cron\M';
    finding := format('version %s, in %s mode', coalesce(v_version, 'none'), case when v_workers then 'background worker' else 'libpq' end);
    advice := case when not ok then 'put pg_cron into shared_preload_libraries, restart, create extension pg_cron;' end;
    return next;

    subject := 'pg_cron mode';
    ok := case
        when regexp_match(v_version, '^(\d+)\.(\d+)')::integer[] >= array[1, 5] then v_workers
        else not v_workers
    end;
    finding := (select format('announcing by %s: %s', m.mode, m.reason) from after_hours.announce_mode() as m);
    advice := case
        when ok then null
        when v_workers then 'set cron.use_background_workers = off and restart: below 1.5 one long job freezes the others'
        else 'set cron.use_background_workers = on and restart: libpq mode keeps host and port of schedule time, '
            'which breaks after a failover'
    end;
    return next;

    subject := 'pg_cron database';
    finding := coalesce(current_setting('cron.database_name', true), 'pg_cron is not loaded');
    ok := finding = current_database();
    advice := case when not ok then format('set cron.database_name = ''%s'' and restart', current_database()) end;
    return next;

    subject := 'pg_cron launcher';
    ok := exists (select from pg_stat_activity as a where a.backend_type = 'pg_cron launcher');
    finding := case when ok then 'running' else 'not running: no job starts' end;
    advice := case when not ok then 'restart PostgreSQL' end;
    return next;

    subject := 'pg_cron capacity';
    v_count := current_setting('cron.max_running_jobs', true)::integer;
    ok := coalesce(v_count >= 8, false) and (not v_workers or current_setting('max_worker_processes')::integer > 8);
    finding := format('cron.max_running_jobs = %s, max_worker_processes = %s', coalesce(v_count::text, 'unknown'),
        current_setting('max_worker_processes'));
    advice := case when not ok then 'up to 5 of our jobs run at a time; raise both settings above 8 and restart' end;
    return next;
end
$$;
comment on function after_hours.examine_pg_cron() is
'Properties of pg_cron that are known to break jobs. Read it as select * from after_hours.doctor();';
alter function after_hours.examine_pg_cron() owner to after_hours_jobs;
revoke all on function after_hours.examine_pg_cron() from public;
grant execute on function after_hours.examine_pg_cron() to after_hours_owner;
