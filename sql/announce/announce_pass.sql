create or replace function after_hours.announce_pass(
    p_until timestamptz, p_wait interval default '0', inout progress after_hours.progress default null,
    inout failures integer default 0, p_failure text default null,
    out is_over boolean, out emitted integer, out has_more boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '900ms'
as $$
declare
    v_now timestamptz;
    v_next timestamptz;
    v_sleep interval;
    v_done record;
    v_stored after_hours.emitter;
begin
    -- Purpose: one pass of the loop: take the lock, sleep until the next due instant, sweep or retry (at most 0.9 s, at least
    --          p_wait, not past p_until), announce. The caller's commit publishes the events and releases the lock.
    -- Returns: whether the run is over (paused, or p_until reached), events written, whether more is due; progress, which the
    --          caller passes to its next pass: when idle it is not stored. failures: of the caller's passes since the last one
    --          that told of them (with the message of the last); 0 once they are stored.
    -- Locks:   after_hours.emitter EXCLUSIVE and the sessions ACCESS SHARE until the caller's commit; if emitter is not free
    --          within 900 ms, the pass ends without an effect.
    -- Access:  after_hours_jobs.
    emitted := 0;
    has_more := false;
    is_over := after_hours.is_paused('announce') or clock_timestamp() >= p_until;
    if is_over then
        return;
    end if;
    begin
        lock table after_hours.emitter in exclusive mode;
    exception when lock_not_available then
        return;
    end;
    -- First the lock, then the snapshot: what waits for a rewriting ALTER TABLE inside a STABLE function would go on with an
    -- older snapshot, in which the table is empty, and a sweep would pass over what it had not seen.
    lock table only public.after_hours_sessions in access share mode;
    perform after_hours._assert_tables();

    v_now := clock_timestamp();
    select e.* into v_stored from after_hours.emitter as e;
    if progress.swept_at is null or v_stored.swept_at > progress.swept_at and v_stored.swept_at <= v_now then
        progress.swept_at := v_stored.swept_at;
        progress.sweep_at := v_stored.sweep_at;
    end if;
    v_next := after_hours.next_event(v_now);
    v_sleep := greatest(
        least(
            v_next, coalesce(progress.sweep_at, v_now), progress.retry_at, v_now + interval '900 milliseconds',
            p_until
        ) - v_now,
        p_wait
    );
    if v_sleep > interval '0' then
        perform pg_sleep(extract(epoch from v_sleep));
    end if;

    select d.*
    into v_done
    from after_hours.settings as s
    cross join lateral after_hours.emit_due(
        clock_timestamp(), s.announce_batch, 200,
        -- known ahead: what is due from the next event on that was known when this pass began, or since the last sweep
        case when v_next <= v_now then progress.swept_at else coalesce(v_next, 'infinity') end,
        progress
    ) as d;
    progress := v_done.progress;
    emitted := v_done.expired + v_done.expiring;
    has_more := v_done.has_more;
    perform after_hours.write_heartbeat(failures, p_failure);
    failures := 0;
end
$$;
comment on function after_hours.announce_pass(timestamptz, interval, after_hours.progress, integer, text) is
'One pass of announce_loop(): waits for the lock (900 ms) and for the next due instant (0.9 s at most, so '
'that sessions written meanwhile are announced within a second), then announces. The caller must commit at once.';
alter function after_hours.announce_pass(timestamptz, interval, after_hours.progress, integer, text) owner to after_hours_owner;
revoke all on function after_hours.announce_pass(timestamptz, interval, after_hours.progress, integer, text) from public;
grant execute on function after_hours.announce_pass(timestamptz, interval, after_hours.progress, integer, text) to after_hours_jobs;
