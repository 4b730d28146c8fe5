create or replace function after_hours.list_jobs()
returns table (
    job text, schedule text, is_active boolean, next_run timestamptz, is_running boolean, last_start timestamptz,
    last_duration interval, last_status text, last_message text, mode text, accuracy text, runs_as text, command text, purpose text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
begin
    -- Purpose: the jobs of the plan as pg_cron has them, with their last run. Row security of pg_cron hides both from other roles.
    -- Returns: a row per planned job; schedule is null if pg_cron does not have it.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    if after_hours.is_ticker() then
        return query
        select
            p.job, p.schedule, k.n > 0,
            after_hours.last_planned(p.schedule, clock_timestamp()) + case when p.job = 'purge' then interval '1 day' else interval '1 hour' end,
            case when p.job like 'announce%' then k.n > 0 else coalesce(r.status = 'running', false) end,
            r.started_at, r.finished_at - r.started_at, r.status, r.message, 'ticker',
            case when p.job like 'announce%' then '20 ms' else '1 hour' end, 'after_hours_jobs', p.command, p.purpose
        from after_hours.job_plan as p
        cross join (
            select count(*) as n from after_hours.tickers as t where t.seen_at > clock_timestamp() - interval '30 seconds'
        ) as k
        left join lateral (
            select o.status, o.started_at, o.finished_at, o.message
            from after_hours.ticker_runs as o
            where o.job = p.job
            order by o.started_at desc
            limit 1
        ) as r on true;
        return;
    end if;
    return query
    select
        p.job, j.schedule, j.active,
        case
            when not coalesce(j.active, false) or p.job = 'announce_boot' then null
            when p.job = 'purge' then (date_trunc('day',
                clock_timestamp() at time zone 'UTC' - interval '3 hours') + interval '1 day 3 hours') at time zone 'UTC'
            when p.job = 'purge_catch_up' then date_trunc('hour', clock_timestamp() - interval '17 minutes') + interval '77 minutes'
            when p.job = 'housekeeping' then date_trunc('hour', clock_timestamp() - interval '41 minutes') + interval '101 minutes'
            else date_trunc('minute', clock_timestamp()) + interval '1 minute'
        end,
        coalesce(r.status = 'running', false), r.start_time, r.end_time - r.start_time, r.status, r.return_message,
        case when j.nodename is null then null when w.on then 'background worker' else 'libpq ' || j.nodename end,
        case
            when p.job like 'announce%' and m.mode = 'loop' then '20 ms'
            when p.job like 'announce%' then '1 minute'
            else '1 hour'
        end,
        j.username, coalesce(j.command, p.command), p.purpose
    from after_hours.job_plan as p
    cross join after_hours.announce_mode() as m
    cross join (select coalesce(current_setting('cron.use_background_workers', true), 'off')::boolean as on) as w
    left join cron.job as j on j.jobname = format('after_hours_%s@%s', p.job, current_database()) and j.username = current_user
    left join lateral (
        select d.status, d.start_time, d.end_time, d.return_message
        from cron.job_run_details as d
        where d.jobid = j.jobid
        order by d.runid desc
        limit 1
    ) as r on true;
exception
    when insufficient_privilege or undefined_table or invalid_schema_name or undefined_column then
        perform after_hours.assert_access('cron.job', 'cron.job_run_details'); -- says it in words
        raise;
end
$$;
comment on function after_hours.list_jobs() is
'The planned jobs as pg_cron has them, with next and last run. Read it as view after_hours.jobs.';
alter function after_hours.list_jobs() owner to after_hours_jobs;
revoke all on function after_hours.list_jobs() from public;
grant execute on function after_hours.list_jobs() to after_hours_owner, after_hours_dba;
