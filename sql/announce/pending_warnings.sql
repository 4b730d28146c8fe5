create or replace view after_hours.pending_warnings
with (security_barrier = false) as
-- The only definition of a pending warning: not ended, not warned of the present deadline, not set aside. Callers add
-- their time bounds.
select
    s.id,
    s.user_id,
    s.started_at,
    s.expires_at as deadline
from public.after_hours_sessions as s
where s.ended_at is null and s.warned_for is distinct from s.expires_at
    and not exists (
        select from after_hours.set_aside as a
        where a.session_id = s.id and a.type = 'after_hours:session_expiring' and a.retry_at > now()
    );
comment on view after_hours.pending_warnings is
'Sessions whose warning is not announced for their present deadline. Those that raised an error wait for '
'set_aside.retry_at. Internal: the rule shared by announce_due(), next_due() and list_upcoming().';
alter view after_hours.pending_warnings owner to after_hours_owner;
