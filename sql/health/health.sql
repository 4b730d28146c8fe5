create or replace view after_hours.health
with (security_barrier = true)
as
-- The union is in FROM: PostgreSQL flattens a union at the top of a view before it applies security_barrier.
select
    h.check_name, h.ok, h.detail, h.next_command
from (
    select s.check_name, s.ok, s.detail, s.next_command from after_hours.check_scheduler() as s
    union all
    select a.check_name, a.ok, a.detail, a.next_command from after_hours.check_announcing() as a
    union all
    select p.check_name, p.ok, p.detail, p.next_command from after_hours.check_retention() as p
    union all
    select r.check_name, r.ok, r.detail, r.next_command from after_hours.check_relays() as r
    union all
    select u.check_name, u.ok, u.detail, u.next_command from after_hours.check_push() as u
    union all
    select c.check_name, c.ok, c.detail, c.next_command from after_hours.check_schema() as c
) as h;
comment on view after_hours.health is
'One row per check: ok, what was seen, and the next command to type. First look: select * from after_hours.health where '
'not ok; Costs: short index scans.';
alter view after_hours.health owner to after_hours_owner;
revoke all on after_hours.health from public;
grant select on after_hours.health to after_hours_dba;
