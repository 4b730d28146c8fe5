create or replace function after_hours.emit_window(
    p_type text, p_from timestamptz, p_from_id uuid, p_to timestamptz, p_now timestamptz, p_lead interval, p_limit integer,
    inout p_count integer, inout p_skipped integer, inout p_has_more boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_places tid[];
    v_deadlines timestamptz[];
    v_emitted integer;
begin
    -- Purpose: announce what is due in a range of deadlines, up to p_limit.
    -- Returns: the three counts of the caller, raised by what was emitted, skipped (locked or changed meanwhile), left over.
    -- Locks:   those of emit_events().
    -- Access:  internal.
    if p_from > p_to then
        return;
    end if;
    select array_agg(d.place), array_agg(d.deadline)
    into v_places, v_deadlines
    from after_hours.list_due(p_type, p_from, p_from_id, p_to, p_now, p_lead, p_limit + 1) as d;
    if v_places is null then
        return;
    end if;
    p_has_more := p_has_more or cardinality(v_places) > p_limit;
    v_emitted := after_hours.emit_events(p_type, v_places[:p_limit], v_deadlines[:p_limit], p_now, p_lead);
    p_count := p_count + v_emitted;
    p_skipped := p_skipped + least(cardinality(v_places), p_limit) - v_emitted;
end
$$;
comment on function after_hours.emit_window(
    text, timestamptz, uuid, timestamptz, timestamptz, interval, integer, integer, integer, boolean
) is 'Announces what is due in a range of deadlines and adds to the caller''s counts. Internal, used by emit_due().';
alter function after_hours.emit_window(
    text, timestamptz, uuid, timestamptz, timestamptz, interval, integer, integer, integer, boolean
) owner to after_hours_owner;
revoke all on function after_hours.emit_window(
    text, timestamptz, uuid, timestamptz, timestamptz, interval, integer, integer, integer, boolean
) from public;
