create or replace view after_hours.push_history
with (security_barrier = true)
as
select
    p.id as push_id, p.target, p.uid, p.type, p.user_id, p.session_id, p.deadline, p.not_after, p.state, p.detail, p.created_at,
    p.finished_at, a.attempt, a.node, a.started_at, round(extract(epoch from a.finished_at - a.started_at) * 1000) as took_ms,
    a.status, a.error
from after_hours.pushes as p
left join after_hours.push_attempts as a on a.push_id = p.id
order by p.id, a.attempt;
comment on view after_hours.push_history is
'Each push and each attempt at sending it: when, by which sender, the HTTP status or the error. Give a user_id or a push_id. Kept '
'as long as receipts.';
alter view after_hours.push_history owner to after_hours_owner;
revoke all on after_hours.push_history from public;
grant select on after_hours.push_history to after_hours_dba;
