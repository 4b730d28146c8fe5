create or replace function after_hours.list_job_runs()
returns table (
    run_id bigint, job text, status text, started_at timestamptz, duration interval, message text, backend_pid integer
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
begin
    -- Purpose: our rows of cron.job_run_details, which row security hides from other roles.
    -- Returns: a row per run, kept for 7 days.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    if after_hours.is_ticker() then
        return query
        select r.id, r.job, r.status, r.started_at, r.finished_at - r.started_at, r.message, r.backend_pid
        from after_hours.ticker_runs as r;
        return;
    end if;
    return query
    select
        d.runid, coalesce(substring(j.jobname from '^after_hours_(.*)@'), 'unscheduled'), d.status, d.start_time,
        d.end_time - d.start_time, d.return_message, d.job_pid
    from cron.job_run_details as d
    left join cron.job as j on j.jobid = d.jobid
    where d.username = current_user and d.database = current_database();
exception
    when insufficient_privilege or undefined_table or invalid_schema_name or undefined_column then
        perform after_hours.assert_access('cron.job', 'cron.job_run_details'); -- says it in words
        raise;
end
$$;
comment on function after_hours.list_job_runs() is
'Runs of our jobs in the last 7 days. Read it as view after_hours.job_runs.';
alter function after_hours.list_job_runs() owner to after_hours_jobs;
revoke all on function after_hours.list_job_runs() from public;
grant execute on function after_hours.list_job_runs() to after_hours_owner, after_hours_dba;
