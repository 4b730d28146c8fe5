create or replace function after_hours.sessions_json(p_user_id uuid, p_now timestamptz)
returns text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
    -- Purpose: a user's sessions as the protocol's snapshot shows them: those ahead and those over for less than a day.
    -- Returns: JSON objects separated by commas, oldest deadline first, at most 50; '' when there is none. warnsAt, when
    --          the warning is due, lets a client warn by itself should its network fail; one ended early has none.
    -- Locks:   none.   Called by: relay_attach. Wants an index on after_hours_sessions (user_id).
    select coalesce(string_agg(
        format('{"sessionId":"%s","expiresAt":"%s"%s,"state":"%s"}', r.id, after_hours.iso_utc(r.deadline),
            coalesce(',"warnsAt":"' || after_hours.iso_utc(r.warns_at) || '"', ''), case
                when r.deadline <= p_now then 'ended'
                when r.warned_for = r.deadline then 'warned'
                else 'active'
            end), ',' order by r.deadline, r.id), '')
    from (
        select s.id, s.warned_for, least(s.ended_at, s.expires_at) as deadline,
            case when s.ended_at is null then greatest(s.expires_at - t.warning_lead, s.started_at) end as warns_at
        from public.after_hours_sessions as s
        cross join after_hours.settings as t
        where s.user_id = p_user_id and least(s.ended_at, s.expires_at) > p_now - interval '1 day'
        order by least(s.ended_at, s.expires_at) desc, s.id
        limit 50
    ) as r;
$$;
comment on function after_hours.sessions_json(uuid, timestamptz) is
'A user''s sessions for hello, snapshot and reset: active, warned, or ended within the last 24 hours before p_now. Source: DESIGN 8.';
alter function after_hours.sessions_json(uuid, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.sessions_json(uuid, timestamptz) from public;
