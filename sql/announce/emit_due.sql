create or replace function after_hours.emit_due(
    p_now timestamptz, p_limit integer, p_retries integer, p_known_from timestamptz, inout progress after_hours.progress,
    out expired integer, out expiring integer, out skipped integer, out has_more boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set plan_cache_mode = force_generic_plan
as $$
declare
    c_first constant uuid := '00000000-0000-0000-0000-000000000000';
    c_last constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    v_at record;
    v_range record;
    v_done record;
    v_is_left boolean := false;
    v_is_sweep boolean := progress.swept_at is null or progress.sweep_at is null or p_now >= progress.sweep_at
        or progress.swept_at > p_now;
    -- a clock that was set back, a long interruption: the rounds go on from here, two minutes' share at most
    v_after timestamptz := greatest(case when progress.swept_at <= p_now then progress.swept_at end, p_now - interval '2 minutes');
begin
    -- Purpose: announce what is due at p_now: ends first, then warnings, up to p_limit of each range. Each call looks from the
    --          last deadline announced up to p_now. A sweep looks below that for what was written late: the last minute, this
    --          second's share of the last hour and of the event retention, and for warnings the whole lead. What is locked is
    --          set aside, and tried again p_retries at a time (null: all): neither later deadlines nor the sweeps wait for it.
    --          p_known_from: what is due from then on was known to the pass before.
    -- Returns: events written of each type, due sessions skipped because another transaction has locked or changed them, whether
    --          more is due; progress, to be passed to the next call: the last complete sweep, the next one, the retries.
    -- Locks:   the caller holds after_hours.emitter EXCLUSIVE. The due sessions FOR SHARE.
    -- Access:  internal.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using
            errcode = 'AH041',
            message = 'announcing needs READ COMMITTED: due sessions are read after the wait for the lock',
            hint = 'set session characteristics as transaction isolation level read committed;';
    end if;
    select a.*, s.event_retention into v_at from after_hours.announced_to(p_now) as a cross join after_hours.settings as s;
    expired := 0;
    expiring := 0;
    skipped := 0;
    has_more := false;
    if v_is_sweep or p_now >= progress.retry_at then
        select r.*
        into v_done
        from after_hours.emit_set_aside(p_now, v_at.lead, p_retries, progress) as r;
        progress := v_done.progress;
        expired := v_done.expired;
        expiring := v_done.expiring;
        skipped := v_done.skipped;
    end if;
    for v_range in
        select 'after_hours:session_expired' as type, v_at.ends as from_deadline, v_at.ends_id as from_id, p_now as to_deadline,
            false as is_sweep
        union all
        select 'after_hours:session_expired', greatest(r.from_deadline, v_at.ends_floor),
            case when r.from_deadline > v_at.ends_floor then c_first else c_last end, least(r.to_deadline, v_at.ends), true
        from (
            select p_now - interval '62 seconds', v_at.ends
            union all
            select s.from_deadline, s.to_deadline
            from after_hours.sweep_slices(greatest(v_after, p_now - interval '1 minute'), p_now, interval '1 minute', interval '1 hour') as s
            union all
            select s.from_deadline, s.to_deadline
            from after_hours.sweep_slices(v_after, p_now, interval '1 hour', v_at.event_retention) as s
        ) as r (from_deadline, to_deadline)
        where v_is_sweep
        union all
        select 'after_hours:session_expiring', v_at.warnings, v_at.warnings_id, p_now + v_at.lead, false
        union all
        select 'after_hours:session_expiring', v_at.warnings_floor, c_last, v_at.warnings, true
        where v_is_sweep
    loop
        select w.emitted, w.skipped, w.has_more
        into v_done
        from after_hours.emit_window(
            v_range.type, v_range.from_deadline, v_range.from_id, v_range.to_deadline, p_now, v_at.lead, p_limit,
            case when not v_range.is_sweep then p_known_from end
        ) as w;
        expired := expired + case when v_range.type = 'after_hours:session_expired' then v_done.emitted else 0 end;
        expiring := expiring + case when v_range.type = 'after_hours:session_expiring' then v_done.emitted else 0 end;
        if v_done.skipped > 0 then
            skipped := skipped + v_done.skipped;
            progress.retry_wait := interval '10 milliseconds';
            progress.retry_at := p_now + 2 * progress.retry_wait;
        end if;
        has_more := has_more or v_done.has_more;
        v_is_left := v_is_left or v_range.is_sweep and v_done.has_more;
    end loop;
    if v_is_left then
        progress.sweep_at := p_now; -- the next call looks at the same share again
    elsif v_is_sweep then
        progress.swept_at := p_now;
        -- A session shorter than the lead is warned at its start, which no index knows: a start ahead brings the next sweep.
        select least(p_now + interval '900 milliseconds', min(s.started_at))
        into progress.sweep_at
        from public.after_hours_sessions as s
        where least(s.ended_at, s.expires_at) > v_at.warnings_floor
            and least(s.ended_at, s.expires_at) <= p_now + v_at.lead + interval '1 second'
            and s.ended_at is null and s.started_at > greatest(p_now, s.expires_at - v_at.lead);
        -- for the other loop; not each time when idle: that would use a transaction id per second
        update after_hours.emitter as e
        set swept_at = progress.swept_at, sweep_at = progress.sweep_at
        where expired + expiring > 0 or e.swept_at is null or e.swept_at not between p_now - interval '15 seconds' and p_now;
    end if;
end
$$;
comment on function after_hours.emit_due(timestamptz, integer, integer, timestamptz, after_hours.progress) is
'Announces what is due at an instant and, when a sweep is due, what was written late. Internal: under the lock on emitter, '
'by announce_due() and announce_pass(). Error AH041.';
alter function after_hours.emit_due(timestamptz, integer, integer, timestamptz, after_hours.progress) owner to after_hours_owner;
revoke all on function after_hours.emit_due(timestamptz, integer, integer, timestamptz, after_hours.progress) from public;
