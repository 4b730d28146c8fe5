create or replace view after_hours.health
with (security_barrier = true)
as
select h.check_name, h.ok, h.detail, h.next_command
from after_hours.list_health() as h;
comment on view after_hours.health is
'One row per check: ok, what was seen, and the next command to type. A check that can''t see is a row that says what it '
'lacks. First look: select * from after_hours.health where not ok; Costs: short index scans.';
alter view after_hours.health owner to after_hours_owner;
revoke all on after_hours.health from public;
grant select on after_hours.health to after_hours_dba;
