create or replace function after_hours.trim_ticker_runs(p_limit integer default 5000)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count integer;
begin
    -- Purpose: delete runs of tickers after 7 days, and tickers not seen for a day.
    -- Returns: the number of runs deleted; call again until 0.
    -- Locks:   the rows deleted.
    -- Access:  after_hours_jobs.
    delete from after_hours.tickers as t where t.seen_at < clock_timestamp() - interval '1 day';
    delete from after_hours.ticker_runs as r
    where r.id in (
        select o.id from after_hours.ticker_runs as o where o.started_at < clock_timestamp() - interval '7 days' limit p_limit
    );
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function after_hours.trim_ticker_runs(integer) is
'Deletes runs of tickers older than 7 days, up to p_limit at a time, and tickers not seen for a day. Used by trim_job_runs().';
alter function after_hours.trim_ticker_runs(integer) owner to after_hours_owner;
revoke all on function after_hours.trim_ticker_runs(integer) from public;
grant execute on function after_hours.trim_ticker_runs(integer) to after_hours_jobs;
