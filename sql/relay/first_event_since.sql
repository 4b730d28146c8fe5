create or replace function after_hours.first_event_since(p_instant timestamptz)
returns bigint
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_low bigint;
    v_high bigint;
    v_middle bigint;
    v_found record;
begin
    -- Purpose: find an instant in the event log by binary search: ids follow the order of emission, so no index is needed.
    -- Returns: the smallest id emitted at p_instant or later; null when there is none. About 25 index probes.
    -- Locks:   none.
    -- Access:  internal.
    select min(e.id), max(e.id) + 1 into v_low, v_high from after_hours.events as e;
    while v_low < v_high loop
        v_middle := (v_low + v_high) / 2;
        select e.id, e.emitted_at into v_found from after_hours.events as e where e.id >= v_middle order by e.id limit 1;
        if v_found.emitted_at < p_instant then
            v_low := v_found.id + 1;
        else
            v_high := v_middle;
        end if;
    end loop;
    return (select e.id from after_hours.events as e where e.id >= v_low order by e.id limit 1);
end
$$;
comment on function after_hours.first_event_since(timestamptz) is
'The first event emitted at or after an instant, by binary search: ids follow the order of emission. Null when there is '
'none.';
alter function after_hours.first_event_since(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.first_event_since(timestamptz) from public;
