create or replace function after_hours.list_upcoming(p_now timestamptz default clock_timestamp())
returns table (due_at timestamptz, type text, session_id uuid, user_id uuid, deadline timestamptz)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_lead interval;
    v_since timestamptz;
begin
    -- Purpose: list what will be announced next, overdue events first, at most 1,000 of each type.
    -- Returns: a row per event.
    -- Locks:   none; two index scans.
    -- Access:  after_hours_dba.
    perform after_hours.assert_access('public.after_hours_sessions');
    select s.warning_lead, s.announce_since into v_lead, v_since from after_hours.settings as s;
    return query
    (
        select p.deadline, 'after_hours:session_expired', p.id, p.user_id, p.deadline
        from after_hours.pending_ends as p
        where p.deadline > v_since
        order by p.deadline
        limit 1000
    )
    union all
    (
        select greatest(p.deadline - v_lead, p.started_at), 'after_hours:session_expiring', p.id, p.user_id, p.deadline
        from after_hours.pending_warnings as p
        where p.deadline > greatest(p_now, v_since)
        order by p.deadline
        limit 1000
    );
end
$$;
comment on function after_hours.list_upcoming(timestamptz) is
'What will be announced next, at most 1,000 of each type. Read it as view after_hours.upcoming.';
alter function after_hours.list_upcoming(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.list_upcoming(timestamptz) from public;
grant execute on function after_hours.list_upcoming(timestamptz) to after_hours_dba;
