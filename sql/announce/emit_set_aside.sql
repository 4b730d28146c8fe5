create or replace function after_hours.emit_set_aside(p_type text, p_now timestamptz, p_lead interval, p_limit integer)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_places tid[];
    v_deadlines timestamptz[];
    v_emitted integer;
begin
    -- Purpose: try again the sessions in set_aside whose retry_at has come and whose deadline still stands, whatever its age.
    -- Returns: the number of events written. What has been announced leaves set_aside.
    -- Locks:   those of emit_events().
    -- Access:  internal.
    select array_agg(r.ctid), array_agg(r.deadline)
    into v_places, v_deadlines
    from (
        select s.ctid, a.deadline
        from after_hours.set_aside as a
        join public.after_hours_sessions as s on s.id = a.session_id and least(s.ended_at, s.expires_at) = a.deadline
        where a.type = p_type and a.retry_at <= p_now
            and case p_type
                when 'after_hours:session_expired' then a.deadline <= p_now
                else s.ended_at is null and a.deadline > p_now
            end
            and not exists (
                select
                from after_hours.events as e
                where e.type = p_type and e.deadline = a.deadline and e.session_id = a.session_id
            )
        order by a.retry_at
        limit p_limit
    ) as r;
    if v_places is null then
        return 0;
    end if;
    v_emitted := after_hours.emit_events(p_type, v_places, v_deadlines, p_now, p_lead);
    delete from after_hours.set_aside as a
    using after_hours.events as e
    where a.type = p_type and e.type = a.type and e.deadline = a.deadline and e.session_id = a.session_id;
    return v_emitted;
end
$$;
comment on function after_hours.emit_set_aside(text, timestamptz, interval, integer) is
'Announces sessions that had been set aside, once their retry_at has come. Internal, used by the sweeps of emit_due().';
alter function after_hours.emit_set_aside(text, timestamptz, interval, integer) owner to after_hours_owner;
revoke all on function after_hours.emit_set_aside(text, timestamptz, interval, integer) from public;
