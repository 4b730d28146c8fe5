create or replace function after_hours.emit_window(
    p_type text, p_from timestamptz, p_from_id uuid, p_to timestamptz, p_now timestamptz, p_lead interval, p_limit integer,
    p_known_from timestamptz,
    out emitted integer, out skipped integer, out has_more boolean
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
    v_told uuid[];
    v_page integer;
    v_locked integer;
begin
    -- Purpose: announce what is due in a range of deadlines, up to p_limit. Sessions that are locked do not hold up the others:
    --          they go to set_aside, where emit_set_aside() tries them again, and the range is read on behind them.
    -- Returns: events written, sessions skipped (locked or changed meanwhile), whether the range has more.
    -- Locks:   those of emit_events().
    -- Access:  internal.
    emitted := 0;
    skipped := 0;
    has_more := false;
    while p_from <= p_to loop
        select array_agg(d.place), array_agg(d.deadline), array_agg(d.session_id)
        into v_places, v_deadlines, v_ids
        from after_hours.list_due(p_type, p_from, p_from_id, p_to, p_now, p_lead, p_limit - emitted + 1) as d;
        exit when v_places is null;
        v_page := least(cardinality(v_places), p_limit - emitted);
        v_told := after_hours.emit_events(p_type, v_places[:v_page], v_deadlines[:v_page], p_now, p_lead, p_known_from);
        emitted := emitted + cardinality(v_told);
        if cardinality(v_told) < v_page then
            insert into after_hours.set_aside (type, deadline, session_id, sqlstate, message, attempts, retry_at)
            select p_type, d.deadline, d.id, '55P03', 'locked by another transaction', 0, p_now -- attempts: those that raised an error
            from unnest(v_ids[:v_page], v_deadlines[:v_page]) as d (id, deadline)
            where d.id <> all(v_told)
            on conflict do nothing; -- it raised an error and is there already
            get diagnostics v_locked = row_count;
            skipped := skipped + v_locked;
        end if;
        exit when cardinality(v_places) = v_page;
        has_more := emitted = p_limit;
        exit when has_more;
        p_from := v_deadlines[v_page];
        p_from_id := v_ids[v_page];
    end loop;
end
$$;
comment on function after_hours.emit_window(text, timestamptz, uuid, timestamptz, timestamptz, interval, integer, timestamptz) is
'Announces what is due in a range of deadlines; what is locked goes to after_hours.set_aside. Internal, used by emit_due().';
alter function after_hours.emit_window(text, timestamptz, uuid, timestamptz, timestamptz, interval, integer, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.emit_window(text, timestamptz, uuid, timestamptz, timestamptz, interval, integer, timestamptz) from public;
