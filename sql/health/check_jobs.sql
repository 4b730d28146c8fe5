create or replace function after_hours.check_jobs()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    v_missing text;
begin
    -- Purpose: check that pg_cron has our jobs as planned.
    -- Returns: one row. Owned by the jobs role: row security of pg_cron hides them from other roles.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    check_name := 'jobs';
    if after_hours.is_ticker() then
        select string_agg(p.job, ', ' order by p.job)
        into v_missing
        from after_hours.job_plan as p
        where after_hours.last_planned(p.schedule, clock_timestamp() - interval '15 minutes') > coalesce(
            (select max(r.started_at) from after_hours.ticker_runs as r where r.job = p.job),
            (select min(t.started_at) from after_hours.tickers as t), clock_timestamp()
        );
        ok := v_missing is null;
        detail := coalesce('due for 15 minutes and not begun: ' || v_missing, 'tickers begin all jobs as planned');
        next_command := case when not ok then 'select * from after_hours.tickers; then start after-hours tick' end;
        return next;
        return;
    end if;
    select string_agg(p.job, ', ' order by p.job)
    into v_missing
    from after_hours.job_plan as p
    where not exists (
        select
        from cron.job as j
        where j.jobname = format('after_hours_%s@%s', p.job, current_database()) and j.username = current_user
            and j.active and j.schedule = p.schedule and j.command = p.command and j.database = current_database()
    );
    ok := v_missing is null;
    detail := coalesce('not scheduled as planned, or inactive: ' || v_missing, 'all jobs are scheduled as planned');
    next_command := case when not ok then 'select * from after_hours.install_jobs();' end;
    return next;
end
$$;
comment on function after_hours.check_jobs() is
'Health check: our jobs in pg_cron against after_hours.job_plan. Read it as view after_hours.health.';
alter function after_hours.check_jobs() owner to after_hours_jobs;
revoke all on function after_hours.check_jobs() from public;
grant execute on function after_hours.check_jobs() to after_hours_owner, after_hours_dba;
