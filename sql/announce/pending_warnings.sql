create or replace view after_hours.pending_warnings
with (security_barrier = false) as
-- The rule of due-ness for warnings, once: running, and not warned of the present deadline. Callers add their bounds of time.
select
    s.id,
    s.user_id,
    s.started_at,
    s.expires_at as deadline,
    (
        select a.retry_at from after_hours.set_aside as a where a.session_id = s.id and a.type = 'after_hours:session_expiring'
    ) as retry_at
from public.after_hours_sessions as s
where s.ended_at is null and s.warned_for is distinct from s.expires_at;
comment on view after_hours.pending_warnings is
'Sessions whose warning is not announced for their present deadline. retry_at: not before, as announcing it raised an '
'error. Internal: the rule that announce_due(), next_due() and list_upcoming() share.';
alter view after_hours.pending_warnings owner to after_hours_owner;
