create or replace view after_hours.backlog
with (security_barrier = true)
as
select b.due_day, b.matches, b.held, b.set_aside, b.oldest, b.overdue_by
from after_hours.list_backlog() as b;
comment on view after_hours.backlog is
'Matches past their retention by the UTC day on which they became due: the next run deletes matches; held and set_aside '
'stay (see not_purged). Costs a scan of the overdue ones.';
alter view after_hours.backlog owner to after_hours_owner;
revoke all on after_hours.backlog from public;
grant select on after_hours.backlog to after_hours_dba, after_hours_jobs;
