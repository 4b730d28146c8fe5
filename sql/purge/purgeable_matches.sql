create or replace view after_hours.purgeable_matches
with (security_barrier = false)
as
-- the only definition of a purgeable match: unsaved, no hold on it or on one of its users, and not made within the retention,
-- whatever its expires_at says. Callers add expires_at < cutoff.
select m.id, m.expires_at, m.user_a, m.user_b, m.created_at
from public.after_hours_matches as m
where m.converted_to_match_id is null
    and not exists (select from after_hours.holds as h where h.match_id = m.id)
    and not exists (select from after_hours.holds as h where h.user_id = m.user_a)
    and not exists (select from after_hours.holds as h where h.user_id = m.user_b)
    and (m.created_at is null or m.created_at < (select after_hours.purge_cutoff()));
comment on view after_hours.purgeable_matches is
'The only definition of the purge''s rule: matches that are neither saved nor held nor made within the retention. With expires_at < purge_cutoff() they are '
'overdue. Read by the purge, its preview and the brake; a view, so that the planner can inline it.';
alter view after_hours.purgeable_matches owner to after_hours_owner;
revoke all on after_hours.purgeable_matches from public;
