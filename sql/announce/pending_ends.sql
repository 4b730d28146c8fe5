create or replace view after_hours.pending_ends
with (security_barrier = false) as
-- The rule of due-ness for ends, once: not announced for the present deadline, not set aside. Callers add
-- their bounds of time. now(), the start of the transaction, lets the planner make an anti-join of set_aside.
select
    s.id,
    s.user_id,
    least(s.ended_at, s.expires_at) as deadline
from public.after_hours_sessions as s
where s.expired_for is distinct from least(s.ended_at, s.expires_at)
    and not exists (
        select from after_hours.set_aside as a
        where a.session_id = s.id and a.type = 'after_hours:session_expired' and a.retry_at > now()
    );
comment on view after_hours.pending_ends is
'Sessions whose end is not announced for their present deadline, which may lie ahead. Those that raised an '
'error wait for set_aside.retry_at. Internal: the rule that announce_due(), next_due() and list_upcoming() share.';
alter view after_hours.pending_ends owner to after_hours_owner;
