create or replace function after_hours.list_upcoming(p_now timestamptz default clock_timestamp())
returns table (due_at timestamptz, type text, session_id uuid, user_id uuid, deadline timestamptz)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_at record;
begin
    -- Purpose: list what will be announced next, overdue events first, at most 1,000 of each type. What was written late is
    --          found up to a minute back.
    -- Returns: a row per event.
    -- Locks:   none; a few index scans.
    -- Access:  after_hours_dba.
    perform after_hours.assert_access('public.after_hours_sessions');
    select a.* into v_at from after_hours.announced_to(p_now) as a;
    return query
    select d.due_at, 'after_hours:session_expired', d.session_id, d.user_id, d.deadline
    from after_hours.list_due(
        'after_hours:session_expired', greatest(v_at.ends_floor, least(v_at.ends, p_now - interval '62 seconds')),
        'ffffffff-ffff-ffff-ffff-ffffffffffff', 'infinity', p_now, v_at.lead, 1000
    ) as d
    union all
    select d.due_at, 'after_hours:session_expiring', d.session_id, d.user_id, d.deadline
    from after_hours.list_due(
        'after_hours:session_expiring', v_at.warnings_floor, 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'infinity', 'infinity', v_at.lead,
        1000
    ) as d;
end
$$;
comment on function after_hours.list_upcoming(timestamptz) is
'What will be announced next, at most 1,000 of each type. Read it as view after_hours.upcoming.';
alter function after_hours.list_upcoming(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.list_upcoming(timestamptz) from public;
grant execute on function after_hours.list_upcoming(timestamptz) to after_hours_dba;
