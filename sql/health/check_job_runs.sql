create or replace function after_hours.check_job_runs()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    v_failed text;
begin
    -- Purpose: check that the latest run of each job succeeded.
    -- Returns: one row. Owned by the jobs role: row security of pg_cron hides the runs from other roles.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    check_name := 'job_runs';
    if after_hours.is_ticker() then
        select string_agg(format('%s: %s', l.job, left(l.message, 200)), '; ')
        into v_failed
        from (
            select distinct on (r.job) r.job, r.status, r.message
            from after_hours.ticker_runs as r
            where r.status <> 'running'
            order by r.job, r.started_at desc
        ) as l
        where l.status = 'failed';
        ok := v_failed is null;
        detail := coalesce('the last finished run failed: ' || v_failed, 'the last finished run of every job succeeded');
        next_command := case when not ok then 'select * from after_hours.job_runs where status = ''failed'' order by run_id desc limit 5;' end;
        return next;
        return;
    end if;
    -- a loop that was cancelled is followed by the next one within the minute, and one that a restart of the server cut
    -- short says nothing about the job
    select string_agg(format('%s: %s', l.job, left(l.return_message, 200)), '; ')
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
    ok := v_failed is null;
    detail := coalesce('the last finished run failed: ' || v_failed, 'the last finished run of every job succeeded');
    next_command := case when not ok then 'select * from after_hours.job_runs where status = ''failed'' order by run_id desc limit 5;' end;
    return next;
end
$$;
comment on function after_hours.check_job_runs() is
'Health check: the latest finished run of each job. Read it as view after_hours.health.';
alter function after_hours.check_job_runs() owner to after_hours_jobs;
revoke all on function after_hours.check_job_runs() from public;
grant execute on function after_hours.check_job_runs() to after_hours_owner, after_hours_dba;
