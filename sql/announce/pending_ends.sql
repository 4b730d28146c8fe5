create or replace view after_hours.pending_ends
with (security_barrier = false) as
-- The only definition of a pending end: not announced for the present deadline, not set aside. Callers add their time
-- bounds. now(), the start of the transaction, is stable: the planner can turn the condition on set_aside into an anti-join.
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
'Sessions whose end is not announced for their present deadline, which may be in the future. Those that raised an '
'error wait for set_aside.retry_at. Internal: the rule shared by announce_due(), next_due() and list_upcoming().';
alter view after_hours.pending_ends owner to after_hours_owner;
