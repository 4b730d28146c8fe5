create or replace view after_hours.upcoming
with (security_barrier = true)
as
select u.*, case when isfinite(u.due_at) then u.due_at - clock_timestamp() end as due_in
from after_hours.list_upcoming() as u
order by u.due_at;
comment on view after_hours.upcoming is
'The next deadlines to be announced, at most 1,000 warnings and 1,000 ends; due_in below zero: overdue, null: never '
'(an infinite deadline). Costs: two short index scans.';
alter view after_hours.upcoming owner to after_hours_owner;
revoke all on after_hours.upcoming from public;
grant select on after_hours.upcoming to after_hours_dba;
