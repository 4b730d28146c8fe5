create or replace function after_hours.ticker_finish(p_node text, p_run_id bigint default null, p_error text default null)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: record the end of a ticker's job, or, without a run, that the ticker itself ends.
    -- Returns: nothing.
    -- Locks:   its row of ticker_runs or tickers.
    -- Access:  after_hours_jobs.
    update after_hours.ticker_runs as r
    set finished_at = clock_timestamp(), status = case when p_error is null then 'succeeded' else 'failed' end,
        message = left(p_error, 1000)
    where r.id = p_run_id and r.status = 'running';
    delete from after_hours.tickers as t where t.node = left(p_node, 200) and p_run_id is null;
$$;
comment on function after_hours.ticker_finish(text, bigint, text) is
'Records the end of a job that a ticker ran, with its error; without a run: the end of the ticker.';
alter function after_hours.ticker_finish(text, bigint, text) owner to after_hours_owner;
revoke all on function after_hours.ticker_finish(text, bigint, text) from public;
grant execute on function after_hours.ticker_finish(text, bigint, text) to after_hours_jobs;
