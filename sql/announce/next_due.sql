create or replace function after_hours.next_due(p_now timestamptz default clock_timestamp())
returns timestamptz
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_lead interval := (select s.warning_lead from after_hours.settings as s);
    v_start timestamptz;
begin
    -- Purpose: the next instant at which an event is due; in the past if one is due already.
    -- Returns: null if no event is ahead. A session shorter than the warning lead, which is warned at its start, is found
    --          only in the second before its start.
    -- Locks:   none; a few index probes, and a scan of the deadlines of one lead.
    -- Access:  after_hours_dba, after_hours_jobs.
    perform after_hours._assert_tables();
    select min(s.started_at)
    into v_start
    from public.after_hours_sessions as s
    where least(s.ended_at, s.expires_at) > p_now
        and least(s.ended_at, s.expires_at) <= p_now + v_lead + interval '1 second'
        and s.ended_at is null and s.started_at > greatest(p_now, s.expires_at - v_lead);
    return least(after_hours.next_event(p_now), v_start);
end
$$;
comment on function after_hours.next_due(timestamptz) is
'Next instant at which a warning or an end is due; in the past if one is overdue, null if none is ahead.';
alter function after_hours.next_due(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.next_due(timestamptz) from public;
grant execute on function after_hours.next_due(timestamptz) to after_hours_jobs, after_hours_dba;
