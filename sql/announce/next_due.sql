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
    -- Purpose: the instant at which there is next something to announce; in the past if something is due already.
    -- Returns: null if nothing lies ahead. A session that starts with less than the warning's lead to go is seen
    --          only in the second before its start: a caller sleeps a second at most.
    -- Locks:   none; three index probes.
    -- Access:  after_hours_dba, after_hours_jobs.
    select s.warning_lead, s.announce_since into v_lead, v_since from after_hours.settings as s;

    select least(s.ended_at, s.expires_at)
    into v_end
    from public.after_hours_sessions as s
    where s.expired_for is distinct from least(s.ended_at, s.expires_at)
        and least(s.ended_at, s.expires_at) > v_since
        and not exists (
            select from after_hours.set_aside as a
            where a.session_id = s.id and a.type = 'after_hours:session_expired' and a.retry_at > p_now
        )
    order by least(s.ended_at, s.expires_at)
    limit 1;

    select s.expires_at - v_lead
    into v_warning
    from public.after_hours_sessions as s
    where s.ended_at is null and s.warned_for is distinct from s.expires_at
        and s.expires_at > greatest(p_now, v_since)
        and s.started_at <= greatest(p_now, s.expires_at - v_lead)
        and not exists (
            select from after_hours.set_aside as a
            where a.session_id = s.id and a.type = 'after_hours:session_expiring' and a.retry_at > p_now
        )
    order by s.expires_at
    limit 1;

    select min(s.started_at)
    into v_start
    from public.after_hours_sessions as s
    where s.ended_at is null and s.warned_for is distinct from s.expires_at
        and s.expires_at > greatest(p_now, v_since)
        and s.expires_at <= p_now + v_lead + interval '1 second'
        and s.started_at > greatest(p_now, s.expires_at - v_lead);

    return least(v_end, v_warning, v_start);
end
$$;
comment on function after_hours.next_due(timestamptz) is
'Next instant at which a warning or an end is due, in the past if one is overdue, null if none lies ahead.';
alter function after_hours.next_due(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.next_due(timestamptz) from public;
grant execute on function after_hours.next_due(timestamptz) to after_hours_jobs, after_hours_dba;
