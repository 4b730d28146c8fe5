create or replace function after_hours.next_due(p_now timestamptz default clock_timestamp())
returns timestamptz
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_lead interval;
    v_since timestamptz;
    v_end timestamptz;
    v_warning timestamptz;
    v_start timestamptz;
begin
    -- Purpose: the next instant at which an event is due; in the past if one is due already.
    -- Returns: null if no event is ahead. A session shorter than the warning lead, which is warned at its start, is found
    --          only in the second before its start: a caller may sleep a second at most.
    -- Locks:   none; three index probes.
    -- Access:  after_hours_dba, after_hours_jobs.
    select s.warning_lead, s.announce_since into v_lead, v_since from after_hours.settings as s;

    select p.deadline
    into v_end
    from after_hours.pending_ends as p
    where p.deadline > v_since
    order by p.deadline
    limit 1;

    select p.deadline - v_lead
    into v_warning
    from after_hours.pending_warnings as p
    where p.deadline > greatest(p_now, v_since) and p.started_at <= greatest(p_now, p.deadline - v_lead)
    order by p.deadline
    limit 1;

    select min(p.started_at)
    into v_start
    from after_hours.pending_warnings as p
    where p.deadline > greatest(p_now, v_since) and p.deadline <= p_now + v_lead + interval '1 second'
        and p.started_at > greatest(p_now, p.deadline - v_lead);

    return least(v_end, v_warning, v_start);
end
$$;
comment on function after_hours.next_due(timestamptz) is
'Next instant at which a warning or an end is due; in the past if one is overdue, null if none is ahead.';
alter function after_hours.next_due(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.next_due(timestamptz) from public;
grant execute on function after_hours.next_due(timestamptz) to after_hours_jobs, after_hours_dba;
