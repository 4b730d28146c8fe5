create or replace function after_hours.write_heartbeat()
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: record that the scheduler announces. Not written by manual calls or relay_rescue(), so that a stopped
    --          scheduler stays visible. At most every 15 s: it is the only transaction id that an idle loop uses. A
    --          heartbeat in the future was written before the clock was set back and is replaced.
    -- Locks:   the row of emitter.
    -- Access:  after_hours_jobs.
    update after_hours.emitter as e
    set heartbeat_at = clock_timestamp(), heartbeat_by = format('pid %s', pg_backend_pid())
    where e.heartbeat_at is null or e.heartbeat_at not between clock_timestamp() - interval '15 seconds' and clock_timestamp();
$$;
comment on function after_hours.write_heartbeat() is
'Records in after_hours.emitter that a scheduled run announces, at most every 15 s. Read by health and the relays.';
alter function after_hours.write_heartbeat() owner to after_hours_owner;
revoke all on function after_hours.write_heartbeat() from public;
grant execute on function after_hours.write_heartbeat() to after_hours_jobs;
