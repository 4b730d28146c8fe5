create or replace function after_hours.ticker_beat(p_node text)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: record that a ticker is alive, while it runs a job.
    -- Returns: nothing.
    -- Locks:   its row of tickers.
    -- Access:  after_hours_jobs.
    insert into after_hours.tickers as t (node)
    values (left(p_node, 200))
    on conflict (node) do update set seen_at = clock_timestamp();
$$;
comment on function after_hours.ticker_beat(text) is
'Records that a ticker is alive. Called by after-hours tick every few seconds while it runs a job; else ticker_claim() does it.';
alter function after_hours.ticker_beat(text) owner to after_hours_owner;
revoke all on function after_hours.ticker_beat(text) from public;
grant execute on function after_hours.ticker_beat(text) to after_hours_jobs;
