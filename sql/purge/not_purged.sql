create or replace view after_hours.not_purged
with (security_barrier = true)
as
select n.match_id, n.expired_at, n.overdue_since, n.reason, n.since, n.by_whom, n.detail
from after_hours.list_not_purged() as n;
comment on view after_hours.not_purged is
'Every match past its retention that stays: reason held, referenced (by a row of the application), set aside (raised '
'another error), braked, paused or left by the last run, since when and by whom. One match in full: explain_match(id).';
alter view after_hours.not_purged owner to after_hours_owner;
revoke all on after_hours.not_purged from public;
grant select on after_hours.not_purged to after_hours_dba, after_hours_jobs;
