create or replace function after_hours.announced_to(
    p_now timestamptz,
    out lead interval, out ends_floor timestamptz, out ends timestamptz, out ends_id uuid,
    out warnings_floor timestamptz, out warnings timestamptz, out warnings_id uuid
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
    -- Purpose: how far announcing has come, by type: the greatest key (deadline, id) that has an event. Passes announce in the
    --          order of that key, so that what lies below is told, except what was written late: sweeps look for that.
    --          Nothing is stored that could disagree with the events; a pass that is rolled back leaves no trace.
    -- Returns: the keys, never below the floors: announce_since, what was trimmed, and for warnings p_now, as no warning is
    --          told after its deadline. The warning lead.
    -- Locks:   none; two index probes.
    -- Access:  internal.
    select s.warning_lead, greatest(s.announce_since, f.expired_to), greatest(s.announce_since, f.expiring_to, p_now)
    into lead, ends_floor, warnings_floor
    from after_hours.settings as s
    cross join after_hours.event_floor as f;

    select e.deadline, e.session_id
    into ends, ends_id
    from after_hours.events as e
    where e.type = 'after_hours:session_expired' and e.deadline <= p_now and e.deadline > ends_floor
    order by e.deadline desc, e.session_id desc
    limit 1;
    if not found then
        ends := ends_floor; -- exclusive: with the greatest id
        ends_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    end if;
    select e.deadline, e.session_id
    into warnings, warnings_id
    from after_hours.events as e
    where e.type = 'after_hours:session_expiring' and e.deadline <= p_now + lead and e.deadline > warnings_floor
    order by e.deadline desc, e.session_id desc
    limit 1;
    if not found then
        warnings := warnings_floor;
        warnings_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    end if;
end
$$;
comment on function after_hours.announced_to(timestamptz) is
'How far announcing has come: the greatest (deadline, id) with an event, by type, never below announce_since and what was '
'trimmed. Internal, used by emit_due(), next_due() and list_upcoming().';
alter function after_hours.announced_to(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.announced_to(timestamptz) from public;
