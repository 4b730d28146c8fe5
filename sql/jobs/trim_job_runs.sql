create or replace function after_hours.trim_job_runs(p_limit integer default 5000)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    v_count integer;
begin
    -- Purpose: delete our part of pg_cron's run history after 7 days; pg_cron itself never does. Selected by run id: rows of
    --          failed runs may have no times.
    -- Returns: the number deleted; call again until 0. The caller commits in between.
    -- Locks:   the rows deleted.
    -- Access:  after_hours_dba, after_hours_jobs.
    if after_hours.is_ticker() then
        return after_hours.trim_ticker_runs(p_limit);
    end if;
    delete from cron.job_run_details as d
    where d.runid in (
        select o.runid
        from cron.job_run_details as o
        where o.username = current_user and o.runid < (
            select max(k.runid)
            from cron.job_run_details as k
            where k.username = current_user and k.start_time < clock_timestamp() - interval '7 days'
        )
        limit p_limit
    );
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function after_hours.trim_job_runs(integer) is
'Deletes our rows of cron.job_run_details older than 7 days, up to p_limit at a time. Returns their number.';
alter function after_hours.trim_job_runs(integer) owner to after_hours_jobs;
revoke all on function after_hours.trim_job_runs(integer) from public;
grant execute on function after_hours.trim_job_runs(integer) to after_hours_dba;
