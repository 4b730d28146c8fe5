create or replace function after_hours.check_scheduler()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_launcher boolean := exists (select from pg_stat_activity as a where a.backend_type = 'pg_cron launcher');
    v_missing text;
    v_failed record;
    v_loops integer;
    v_mode record;
begin
    -- Purpose: checks of pg_cron's launcher, our jobs, their last runs and the announce loops.
    -- Returns: one row per check. Owned by the jobs role: row security hides pg_cron's rows from other roles.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    check_name := 'scheduler';
    ok := v_launcher;
    detail := case when v_launcher then 'the pg_cron launcher is running'
        else 'the pg_cron launcher is not running: no job starts' end;
    next_command := case when not ok
        then 'restart PostgreSQL, e.g. systemctl restart postgresql (pg_cron 1.4 does not restart its launcher)' end;
    return next;

    select string_agg(p.job, ', ' order by p.job)
    into v_missing
    from after_hours.job_plan as p
    where not exists (
        select
        from cron.job as j
        where j.jobname = format('after_hours_%s@%s', p.job, current_database()) and j.username = current_user
            and j.active and j.schedule = p.schedule and j.command = p.command and j.database = current_database()
    );
    check_name := 'jobs';
    ok := v_missing is null;
    detail := coalesce('not scheduled as planned, or inactive: ' || v_missing, 'all jobs are scheduled as planned');
    next_command := case when not ok then 'select * from after_hours.install_jobs();' end;
    return next;

    -- The latest run of each job. A run that a restart of the server ended is left out, as it does not show a fault of
    -- the job; after a cancelled loop the next one starts within a minute.
    select string_agg(format('%s: %s', l.job, left(l.return_message, 200)), '; ') as jobs
    into v_failed
    from (
        select distinct on (d.jobid)
            substring(j.jobname from '^after_hours_(.*)@') as job, d.status, d.return_message
        from cron.job_run_details as d
        join cron.job as j on j.jobid = d.jobid
        where j.username = current_user and j.database = current_database() and d.status in ('succeeded', 'failed')
            and (
                d.status = 'succeeded' or d.start_time >= pg_postmaster_start_time() or d.start_time is null
                or d.return_message !~ '^server restarted|terminating .* due to administrator command'
            )
        order by d.jobid, d.runid desc
    ) as l
    where l.status = 'failed';
    check_name := 'job_runs';
    ok := v_failed.jobs is null;
    detail := coalesce('the last finished run failed: ' || v_failed.jobs, 'the last finished run of every job succeeded');
    next_command := case when not ok then 'select * from after_hours.job_runs where status = ''failed'' order by run_id desc limit 5;' end;
    return next;

    select m.mode, m.reason into v_mode from after_hours.announce_mode() as m;
    select count(*) into v_loops
    from pg_stat_activity as a
    where a.datname = current_database() and a.query ilike 'call after\_hours.announce\_loop%' and a.state <> 'idle';
    check_name := 'announce_mode';
    -- In the first minute after a server's start only announce_boot runs.
    ok := v_mode.mode = 'tick' or v_loops >= 2
        or (v_loops = 1 and pg_postmaster_start_time() > clock_timestamp() - interval '70 seconds');
    detail := case
        when v_mode.mode = 'tick' then format('tick: expect up to a minute of lateness (%s)', v_mode.reason)
        when ok then format('loop: expect 20 ms of lateness (%s)', v_mode.reason)
        when v_loops = 1 then 'loop, but 1 of 2 loops is running: expect 20 ms, up to a minute if this one ends too'
        else 'loop, but 0 of 2 loops are running: nothing is announced before pg_cron starts one at a full minute'
    end;
    next_command := case when not ok then 'wait for the next minute, when pg_cron starts both; then select * from after_hours.jobs;' end;
    return next;
end
$$;
comment on function after_hours.check_scheduler() is
'Health checks of pg_cron, the jobs and the loops. Read them as view after_hours.health.';
alter function after_hours.check_scheduler() owner to after_hours_jobs;
revoke all on function after_hours.check_scheduler() from public;
grant execute on function after_hours.check_scheduler() to after_hours_owner, after_hours_dba;
