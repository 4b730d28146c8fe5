create or replace function after_hours.write_heartbeat(p_failures integer default 0, p_failure text default null)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: record that the scheduler announces. Not written by manual calls or relay_rescue(), so that a stopped
    --          scheduler stays visible. At most every 15 s: it is the only transaction id that an idle loop uses. A
    --          heartbeat in the future was written before the clock was set back and is replaced. With it the number of passes
    --          that had no effect since the last one, and why the last of them had none.
    -- Locks:   the row of emitter.
    -- Access:  after_hours_jobs.
    update after_hours.emitter as e
    set heartbeat_at = clock_timestamp(),
        heartbeat_by = format('pid %s', pg_backend_pid()),
        failures = e.failures + p_failures,
        failed_at = case when p_failures > 0 then clock_timestamp() else e.failed_at end,
        failure = case when p_failures > 0 then left(p_failure, 500) else e.failure end
    where p_failures > 0 or e.heartbeat_at is null
        or e.heartbeat_at not between clock_timestamp() - interval '15 seconds' and clock_timestamp();
$$;
comment on function after_hours.write_heartbeat(integer, text) is
'Records in after_hours.emitter that a scheduled run announces, at most every 15 s. Read by health and the relays.';
alter function after_hours.write_heartbeat(integer, text) owner to after_hours_owner;
revoke all on function after_hours.write_heartbeat(integer, text) from public;
grant execute on function after_hours.write_heartbeat(integer, text) to after_hours_jobs;
