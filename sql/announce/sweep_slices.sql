create or replace function after_hours.sweep_slices(p_after timestamptz, p_now timestamptz, p_period interval, p_depth interval)
returns table (from_deadline timestamptz, to_deadline timestamptz)
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: the part of a round of sweeping that belongs to the time from p_after to p_now. A round takes one p_period of
    --          the clock and goes evenly through the deadlines of the p_depth + p_period before its start: what is written
    --          with a deadline between p_period and p_depth ago is met within a p_period.
    -- Returns: one range of deadlines per round that the time touches.
    -- Locks:   none.
    -- Access:  internal.
    select
        r.start - p_depth - p_period + (greatest(p_after, r.start) - r.start) * w.ratio,
        r.start - p_depth - p_period + (least(p_now, r.start + p_period) - r.start) * w.ratio
    from (select extract(epoch from p_depth + p_period)::double precision / extract(epoch from p_period)::double precision as ratio) as w
    cross join generate_series(date_bin(p_period, p_after, 'epoch'), p_now, p_period) as r (start)
$$;
comment on function after_hours.sweep_slices(timestamptz, timestamptz, interval, interval) is
'The ranges of deadlines to look at again for the time since the last sweep: evenly through p_depth, once per p_period. '
'Internal, used by emit_due().';
alter function after_hours.sweep_slices(timestamptz, timestamptz, interval, interval) owner to after_hours_owner;
revoke all on function after_hours.sweep_slices(timestamptz, timestamptz, interval, interval) from public;
