create or replace function after_hours.ticker_claim(p_node text)
returns table (run_id bigint, job text, command text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    v_now timestamptz := clock_timestamp();
begin
    -- Purpose: record that a ticker is alive, and give it the jobs of the plan whose time has come and that no ticker has begun.
    --          The announce loops are not among them: each ticker calls announce_loop() all the time.
    -- Returns: at most one row; the ticker calls command, then ticker_finish().
    -- Locks:   ticker_runs EXCLUSIVE until the caller commits: of two tickers one gets a job.
    -- Access:  after_hours_jobs.
    if not after_hours.is_ticker() then
        raise exception using
            errcode = 'AH045',
            message = 'pg_cron runs the jobs of this database: a ticker would run them a second time',
            hint = 'If pg_cron is not used any more: select after_hours.uninstall_jobs(); then: '
                'update after_hours.settings set scheduler = ''ticker'';';
    end if;
    perform after_hours.ticker_beat(p_node);
    if not exists (
        select
        from after_hours.job_plan as p
        where after_hours.last_planned(p.schedule, v_now) > coalesce(
            (select max(r.started_at) from after_hours.ticker_runs as r where r.job = p.job), '-infinity'
        )
    ) then
        return;
    end if;
    lock table after_hours.ticker_runs in exclusive mode;
    -- what a killed ticker had begun: the hourly jobs make up for it
    update after_hours.ticker_runs as r
    set status = 'failed', finished_at = v_now, message = 'the ticker ended before its job'
    where r.status = 'running' and not exists (
        select from after_hours.tickers as t where t.node = r.node and t.seen_at > v_now - interval '1 minute'
    );
    return query
    insert into after_hours.ticker_runs as r (job, node, backend_pid, started_at)
    select d.job, left(p_node, 200), pg_backend_pid(), v_now
    from (
        select p.job, after_hours.last_planned(p.schedule, v_now) as planned_at
        from after_hours.job_plan as p
    ) as d
    where d.planned_at > coalesce((select max(o.started_at) from after_hours.ticker_runs as o where o.job = d.job), '-infinity')
        and not exists (select from after_hours.ticker_runs as o where o.job = d.job and o.status = 'running')
    order by d.planned_at
    limit 1
    returning r.id, r.job, (select p.command from after_hours.job_plan as p where p.job = r.job);
end
$$;
comment on function after_hours.ticker_claim(text) is
'Records that a ticker is alive and gives it a job of job_plan whose time has come, to one ticker only. Error AH045 (pg_cron runs '
'the jobs).';
alter function after_hours.ticker_claim(text) owner to after_hours_owner;
revoke all on function after_hours.ticker_claim(text) from public;
grant execute on function after_hours.ticker_claim(text) to after_hours_jobs;
