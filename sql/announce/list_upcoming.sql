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
    -- Purpose: list what will be announced next, at most 1,000 of each type and 1,000 that are locked by other transactions.
    --          What was written late is found up to a minute back.
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
    ) as d
    union all
    (
        select
            case a.type when 'after_hours:session_expired' then a.deadline else greatest(a.deadline - v_at.lead, s.started_at) end,
            a.type, a.session_id, s.user_id, a.deadline
        from after_hours.set_aside as a
        join public.after_hours_sessions as s on s.id = a.session_id and least(s.ended_at, s.expires_at) = a.deadline
        where a.sqlstate = '55P03'
            and (a.type = 'after_hours:session_expired' or s.ended_at is null and a.deadline > p_now)
        order by a.deadline, a.session_id
        limit 1000
    );
end
$$;
comment on function after_hours.list_upcoming(timestamptz) is
'What will be announced next, at most 1,000 of each type, and what is locked. Read it as view after_hours.upcoming.';
alter function after_hours.list_upcoming(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.list_upcoming(timestamptz) from public;
grant execute on function after_hours.list_upcoming(timestamptz) to after_hours_dba;
