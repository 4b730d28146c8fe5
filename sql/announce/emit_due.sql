create or replace function after_hours.emit_due(
    p_now timestamptz, p_limit integer, inout swept_at timestamptz, inout sweep_at timestamptz,
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
    v_type text;
    v_count integer;
    v_is_left boolean := false;
    v_is_sweep boolean := swept_at is null or sweep_at is null or p_now >= sweep_at or swept_at > p_now;
    -- a clock that was set back, a long interruption: the rounds go on from here, two minutes' share at most
    v_after timestamptz := greatest(case when swept_at <= p_now then swept_at end, p_now - interval '2 minutes');
    v_locked integer := 0;
begin
    -- Purpose: announce what is due at p_now: ends first, then warnings, up to p_limit of each range. Each call looks from the
    --          last deadline announced up to p_now. A sweep looks below that for what was written late: the last minute,
    --          this second's share of the last hour and of the event retention, and for warnings the whole lead.
    -- Returns: events written of each type, due sessions skipped because another transaction has locked or changed them, whether
    --          more is due; the instants of the last complete sweep and of the next one, to be passed to the next call.
    -- Locks:   the caller holds after_hours.emitter EXCLUSIVE. The due sessions FOR SHARE.
    -- Access:  internal.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using
            errcode = 'AH041',
            message = 'announcing needs READ COMMITTED: due sessions are read after the wait for the lock',
            hint = 'set session characteristics as transaction isolation level read committed;';
    end if;
    select a.*, s.event_retention into v_at from after_hours.announced_to(p_now) as a cross join after_hours.settings as s;
    skipped := 0;
    has_more := false;
    foreach v_type in array array['after_hours:session_expired', 'after_hours:session_expiring'] loop
        v_count := 0;
        if v_type = 'after_hours:session_expired' then
            select w.p_count, w.p_skipped, w.p_has_more
            into v_count, skipped, has_more
            from after_hours.emit_window(v_type, v_at.ends, v_at.ends_id, p_now, p_now, v_at.lead, p_limit, 0, skipped, has_more) as w;
        else
            select w.p_count, w.p_skipped, w.p_has_more
            into v_count, skipped, has_more
            from after_hours.emit_window(
                v_type, v_at.warnings, v_at.warnings_id, p_now + v_at.lead, p_now, v_at.lead, p_limit, 0, skipped, has_more
            ) as w;
        end if;
        if v_is_sweep then
            for v_range in
                select greatest(r.from_deadline, v_at.ends_floor) as from_deadline, least(r.to_deadline, v_at.ends) as to_deadline,
                    v_at.ends_floor as floor, r.is_round
                from (
                    select p_now - interval '62 seconds', v_at.ends, false
                    union all
                    select s.from_deadline, s.to_deadline, true
                    from after_hours.sweep_slices(
                        greatest(v_after, p_now - interval '1 minute'), p_now, interval '1 minute', interval '1 hour'
                    ) as s
                    union all
                    select s.from_deadline, s.to_deadline, true
                    from after_hours.sweep_slices(v_after, p_now, interval '1 hour', v_at.event_retention) as s
                ) as r (from_deadline, to_deadline, is_round)
                where v_type = 'after_hours:session_expired'
                union all
                select v_at.warnings_floor, v_at.warnings, v_at.warnings_floor, false
                where v_type = 'after_hours:session_expiring'
            loop
                v_locked := 0;
                select w.p_count, w.p_skipped, w.p_has_more
                into v_count, v_locked, v_is_left
                from after_hours.emit_window(
                    v_type, v_range.from_deadline, case when v_range.from_deadline > v_range.floor then c_first else c_last end,
                    v_range.to_deadline, p_now, v_at.lead, p_limit, v_count, v_locked, v_is_left
                ) as w;
                if v_locked > 0 and v_range.is_round then
                    -- The round goes on; what it could not lock is tried again with each sweep.
                    perform after_hours.set_locked_aside(v_type, v_range.from_deadline, v_range.to_deadline, p_now, v_at.lead);
                else
                    skipped := skipped + v_locked;
                end if;
            end loop;
            v_count := v_count + after_hours.emit_set_aside(v_type, p_now, v_at.lead, p_limit);
        end if;
        if v_type = 'after_hours:session_expired' then
            expired := v_count;
        else
            expiring := v_count;
        end if;
    end loop;

    has_more := has_more or v_is_left;
    if v_is_left or skipped > 0 then
        sweep_at := p_now; -- the next call looks at the same share again
    elsif v_is_sweep then
        swept_at := p_now;
        -- A session shorter than the lead is warned at its start, which no index knows: a start ahead brings the next sweep.
        select least(p_now + interval '900 milliseconds', min(s.started_at))
        into sweep_at
        from public.after_hours_sessions as s
        where least(s.ended_at, s.expires_at) > v_at.warnings_floor
            and least(s.ended_at, s.expires_at) <= p_now + v_at.lead + interval '1 second'
            and s.ended_at is null and s.started_at > greatest(p_now, s.expires_at - v_at.lead);
        -- for the other loop; not each time when idle: that would use a transaction id per second
        update after_hours.emitter as e
        set swept_at = emit_due.swept_at, sweep_at = emit_due.sweep_at
        where expired + expiring > 0 or e.swept_at is null or e.swept_at not between p_now - interval '15 seconds' and p_now;
    end if;
end
$$;
comment on function after_hours.emit_due(timestamptz, integer, timestamptz, timestamptz) is
'Announces what is due at an instant and, when a sweep is due, what was written late. Internal: under the lock on emitter, '
'by announce_due() and announce_pass(). Error AH041.';
alter function after_hours.emit_due(timestamptz, integer, timestamptz, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.emit_due(timestamptz, integer, timestamptz, timestamptz) from public;
