create or replace function after_hours.log_position(
    out incarnation text, out epoch text, out head bigint, out floor bigint
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: the position of the event log in the caller's snapshot.
    -- Returns: the newest epoch's name; head, the greatest id ever readable; floor, the greatest trimmed id; incarnation,
    --          which changes whenever ids may have been issued again: ids of two incarnations must not be compared.
    -- Locks:   none.
    -- Access:  internal.
    select e.name into epoch from after_hours.epochs as e order by e.ordinal desc limit 1;
    select f.id into floor from after_hours.event_floor as f;
    select greatest(max(v.id), log_position.floor) into head from after_hours.events as v;
    -- The epoch of a new server run is opened before its first event, which may be after a relay's first read. Until then
    -- the start time of the postmaster identifies a promoted or restarted server.
    incarnation := epoch || '@' || extract(epoch from pg_postmaster_start_time());
end
$$;
comment on function after_hours.log_position() is
'Newest epoch, head and floor of the event log, and their incarnation (epoch and server run).';
alter function after_hours.log_position() owner to after_hours_owner;
revoke all on function after_hours.log_position() from public;
