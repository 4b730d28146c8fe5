create or replace view after_hours.push_backlog
with (security_barrier = true)
as
select
    b.target, b.enabled, b.waiting, b.sending, b.oldest_at, b.next_at, b.failing_since, b.failures, b.last_error, b.sender_seen_at
from after_hours.list_push_backlog() as b
order by b.target;
comment on view after_hours.push_backlog is
'What is to be pushed, a row per target, with its last error and when a sender (after-hours push) last asked. Costs: the pushes '
'not finished.';
alter view after_hours.push_backlog owner to after_hours_owner;
revoke all on after_hours.push_backlog from public;
grant select on after_hours.push_backlog to after_hours_dba;
