create or replace function after_hours.next_event(p_now timestamptz)
returns timestamptz
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
    v_at record;
begin
    -- Purpose: the next instant at which an event is due, apart from warnings at the start of a session shorter than the lead.
    -- Returns: an instant in the past if an event is due already; null if none is ahead.
    -- Locks:   none; four index probes.
    -- Access:  internal.
    select a.* into v_at from after_hours.announced_to(p_now) as a;
    return least(
        (
            select d.due_at
            from after_hours.list_due('after_hours:session_expired', v_at.ends, v_at.ends_id, 'infinity', p_now, v_at.lead, 1) as d
        ),
        (
            select d.due_at
            from after_hours.list_due(
                'after_hours:session_expiring', v_at.warnings, v_at.warnings_id, 'infinity', p_now, v_at.lead, 1
            ) as d
        )
    );
end
$$;
comment on function after_hours.next_event(timestamptz) is
'Next instant at which an end, or the warning of a session that has started, is due. Internal, used by announce_pass() and '
'next_due().';
alter function after_hours.next_event(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.next_event(timestamptz) from public;
