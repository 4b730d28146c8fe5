create or replace function after_hours.push_verdict(p_push after_hours.pushes, p_now timestamptz)
returns text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
    -- Purpose: the one rule of whether a push may still be sent.
    -- Returns: null if it may; else why not. 'expired: …' when its time is over, everything else is a reason to cancel.
    -- Locks:   none.
    -- Access:  internal.
    select case
        when p_push.not_after <= p_now then 'expired: its time was over at ' || after_hours.iso_utc(p_push.not_after)
        when exists (
            select from after_hours.receipts as r where r.uid = p_push.uid and r.first_ack is not null
        ) then 'acknowledged by a client'
        when s.id is null then 'the session was deleted'
        when least(s.ended_at, s.expires_at) is distinct from p_push.deadline then 'the deadline was moved, or the session was ended'
        when exists (
            select from after_hours.user_blocks as b where b.user_id = p_push.user_id and b.until > p_now
        ) then 'the user is blocked'
        when not exists (
            select from after_hours.events as e where e.id = p_push.event_id and e.uid = p_push.uid
        ) then 'the event was trimmed'
    end
    from (values (p_push.session_id)) as w (id)
    left join public.after_hours_sessions as s on s.id = w.id;
$$;
comment on function after_hours.push_verdict(after_hours.pushes, timestamptz) is
'Why a push may not be sent any more: expired, acknowledged, deadline moved, session ended or deleted, user blocked; null if it '
'may. Internal, used by push_claim() and view push_backlog.';
alter function after_hours.push_verdict(after_hours.pushes, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.push_verdict(after_hours.pushes, timestamptz) from public;
