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
    v_ids uuid[];
    v_room integer := p_limit;
    v_page integer;
    v_emitted integer;
begin
    -- Purpose: announce what is due in a range of deadlines, up to p_limit. Sessions that are locked do not hold up
    --          the others: the range is read on behind them.
    -- Returns: the three counts of the caller, raised by what was emitted, skipped (locked or changed meanwhile), left over.
    -- Locks:   those of emit_events().
    -- Access:  internal.
    while p_from <= p_to loop
        select array_agg(d.place), array_agg(d.deadline), array_agg(d.session_id)
        into v_places, v_deadlines, v_ids
        from after_hours.list_due(p_type, p_from, p_from_id, p_to, p_now, p_lead, v_room + 1) as d;
        exit when v_places is null;
        v_page := least(cardinality(v_places), v_room);
        v_emitted := after_hours.emit_events(p_type, v_places[:v_page], v_deadlines[:v_page], p_now, p_lead);
        p_count := p_count + v_emitted;
        p_skipped := p_skipped + v_page - v_emitted;
        v_room := v_room - v_emitted;
        exit when cardinality(v_places) = v_page;
        if v_emitted = v_page or v_room = 0 then
            p_has_more := true;
            exit;
        end if;
        p_from := v_deadlines[v_page];
        p_from_id := v_ids[v_page];
    end loop;
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
