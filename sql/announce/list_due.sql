create or replace function after_hours.list_due(
    p_type text, p_from timestamptz, p_from_id uuid, p_to timestamptz, p_started_by timestamptz, p_lead interval, p_limit integer
)
returns table (place tid, session_id uuid, user_id uuid, deadline timestamptz, due_at timestamptz)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
-- With parameters known, each call is planned anew: two thirds of an empty pass. With fresh statistics missing near now,
-- a custom plan also turns into a nested loop over the events, 3 buffers a row.
set plan_cache_mode = force_generic_plan
set enable_nestloop = off
set enable_hashjoin = off
as $$
begin
    -- Purpose: the only definition of what is to be announced: sessions with a deadline in a range whose event does not exist
    --          and that are not set aside. Warnings: not ended, and started at p_started_by or when the warning is due.
    -- Returns: at most p_limit rows after the key (p_from, p_from_id) up to p_to, by deadline and id. Two index scans, merged:
    --          what is told already costs some 0.5 µs a row.
    -- Locks:   none.
    -- Access:  internal.
    if p_type = 'after_hours:session_expired' then
        return query
        select s.ctid, s.id, s.user_id, least(s.ended_at, s.expires_at), least(s.ended_at, s.expires_at)
        from public.after_hours_sessions as s
        where (least(s.ended_at, s.expires_at), s.id) > (p_from, p_from_id) and least(s.ended_at, s.expires_at) <= p_to
            and not exists (
                select
                from after_hours.events as e
                where e.type = 'after_hours:session_expired' and e.deadline between p_from and p_to
                    and e.deadline = least(s.ended_at, s.expires_at) and e.session_id = s.id
            )
            and not exists (
                select
                from after_hours.set_aside as a
                where a.type = 'after_hours:session_expired' and a.deadline between p_from and p_to
                    and a.deadline = least(s.ended_at, s.expires_at) and a.session_id = s.id
            )
        order by least(s.ended_at, s.expires_at), s.id
        limit p_limit;
    else
        return query
        select s.ctid, s.id, s.user_id, s.expires_at, greatest(s.expires_at - p_lead, s.started_at)
        from public.after_hours_sessions as s
        where (least(s.ended_at, s.expires_at), s.id) > (p_from, p_from_id) and least(s.ended_at, s.expires_at) <= p_to
            and s.ended_at is null and s.started_at <= greatest(p_started_by, s.expires_at - p_lead)
            and not exists (
                select
                from after_hours.events as e
                where e.type = 'after_hours:session_expiring' and e.deadline between p_from and p_to
                    and e.deadline = least(s.ended_at, s.expires_at) and e.session_id = s.id
            )
            and not exists (
                select
                from after_hours.set_aside as a
                where a.type = 'after_hours:session_expiring' and a.deadline between p_from and p_to
                    and a.deadline = least(s.ended_at, s.expires_at) and a.session_id = s.id
            )
        order by least(s.ended_at, s.expires_at), s.id
        limit p_limit;
    end if;
end
$$;
comment on function after_hours.list_due(text, timestamptz, uuid, timestamptz, timestamptz, interval, integer) is
'Sessions of a range of deadlines that are not announced yet, by deadline and id: the rule shared by emit_due(), next_due() '
'and list_upcoming(). Internal.';
alter function after_hours.list_due(text, timestamptz, uuid, timestamptz, timestamptz, interval, integer) owner to after_hours_owner;
revoke all on function after_hours.list_due(text, timestamptz, uuid, timestamptz, timestamptz, interval, integer) from public;
