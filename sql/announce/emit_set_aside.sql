create or replace function after_hours.emit_set_aside(
    p_now timestamptz, p_lead interval, p_limit integer, inout progress after_hours.progress,
    out expired integer, out expiring integer, out skipped integer
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_page record;
    v_told uuid[];
    v_tried integer := 0;
begin
    -- Purpose: try again what is set aside and whose retry_at has come, whatever the age of its deadline: the next p_limit of
    --          the round (null: all). What is announced or no longer stands leaves set_aside. What is still locked stays as it
    --          is: nothing is written for it, however long it is locked.
    -- Returns: events written by type, sessions that are still locked; progress: when and where the retries go on. A page after
    --          another every 20 ms; then the next round after 20 ms, 40 ms … 0.5 s.
    -- Locks:   those of emit_events(); the rows of set_aside that leave it.
    -- Access:  internal.
    expired := 0;
    expiring := 0;
    skipped := 0;
    for v_page in
        select r.type, array_agg(r.place order by r.deadline, r.session_id) as places,
            array_agg(r.deadline order by r.deadline, r.session_id) as deadlines,
            array_agg(r.session_id order by r.deadline, r.session_id) as ids
        from (
            select a.type, a.deadline, a.session_id, s.ctid as place
            from after_hours.set_aside as a
            left join public.after_hours_sessions as s
                on s.id = a.session_id and least(s.ended_at, s.expires_at) = a.deadline
                and (a.type = 'after_hours:session_expired' and a.deadline <= p_now
                    or a.type = 'after_hours:session_expiring' and a.deadline > p_now and s.ended_at is null)
            where a.retry_at <= p_now
                and (progress.retry_id is null or (a.type, a.deadline, a.session_id)
                    > (progress.retry_type, progress.retry_deadline, progress.retry_id))
            order by a.type, a.deadline, a.session_id
            limit p_limit
        ) as r
        group by r.type
        order by r.type
    loop
        v_tried := v_tried + cardinality(v_page.ids);
        v_told := after_hours.emit_events(v_page.type, v_page.places, v_page.deadlines, p_now, p_lead, null);
        expired := expired + case when v_page.type = 'after_hours:session_expired' then cardinality(v_told) else 0 end;
        expiring := expiring + case when v_page.type = 'after_hours:session_expiring' then cardinality(v_told) else 0 end;
        skipped := skipped + cardinality(v_page.ids) - cardinality(v_told);
        if cardinality(v_told) > 0 or array_position(v_page.places, null) > 0 then
            delete from after_hours.set_aside as a
            using unnest(v_page.ids, v_page.deadlines, v_page.places) as d (id, deadline, place)
            where a.type = v_page.type and a.deadline = d.deadline and a.session_id = d.id
                and (d.place is null or d.id = any(v_told));
        end if;
        progress.retry_type := v_page.type;
        progress.retry_deadline := v_page.deadlines[cardinality(v_page.ids)];
        progress.retry_id := v_page.ids[cardinality(v_page.ids)];
    end loop;
    if v_tried = p_limit then
        progress.retry_at := p_now + interval '20 milliseconds';
    else
        progress.retry_wait := least(greatest(progress.retry_wait * 2, interval '20 milliseconds'), interval '500 milliseconds');
        progress.retry_at := case when progress.retry_id is not null then p_now + progress.retry_wait end; -- null: nothing is there
        progress.retry_id := null;
    end if;
end
$$;
comment on function after_hours.emit_set_aside(timestamptz, interval, integer, after_hours.progress) is
'Announces sessions that had been set aside, once they are free or their retry_at has come. Internal, used by emit_due().';
alter function after_hours.emit_set_aside(timestamptz, interval, integer, after_hours.progress) owner to after_hours_owner;
revoke all on function after_hours.emit_set_aside(timestamptz, interval, integer, after_hours.progress) from public;
