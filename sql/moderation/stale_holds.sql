create or replace view after_hours.stale_holds
with (security_barrier = true)
as
select
    h.id as hold_id, h.match_id, h.user_id, h.kind, h.reason, h.placed_by, h.placed_at, h.keep_until,
    clock_timestamp() - h.placed_at as age,
    case
        when h.keep_until <= clock_timestamp() then 'its keep_until has passed: housekeeping is late, or the brake is on'
        when h.match_id is not null then 'no end, older than 90 days'
        else 'no end, on a user, older than 90 days'
    end as why,
    format('select after_hours.release_hold(%s, ''…'');', h.id) as next_command
from after_hours.holds as h
where h.keep_until <= clock_timestamp() - interval '2 hours'
    or (h.keep_until is null and h.placed_at < clock_timestamp() - interval '90 days');
comment on view after_hours.stale_holds is
'Holds to be reviewed: without an end and older than 90 days, or past their keep_until and still in force.';
alter view after_hours.stale_holds owner to after_hours_owner;
revoke all on after_hours.stale_holds from public;
grant select on after_hours.stale_holds to after_hours_moderator, after_hours_dba;
