create or replace view after_hours.retained_messages
with (security_barrier = true)
as
-- Unlike other views of this schema it is no wrapper around a function: a condition on match_id must reach the index.
-- The union is in FROM: on a view that is itself a union PostgreSQL ignores security_barrier, and functions in the reader's
-- query would receive every row.
select r.match_id, r.id, r.sender_id, r.body, r.created_at, r.expired_at, r.purge_after, r.is_held
from (
    select
        g.match_id, g.id, g.sender_id, g.body, g.created_at, m.expires_at as expired_at,
        after_hours.purge_due_at(m.expires_at, m.created_at, s.retention) as purge_after,
        exists (select from after_hours.holds as h where h.match_id = m.id)
        or exists (select from after_hours.holds as h where h.user_id = m.user_a)
        or exists (select from after_hours.holds as h where h.user_id = m.user_b) as is_held
    from public.after_hours_messages as g
    join public.after_hours_matches as m on m.id = g.match_id
    cross join after_hours.settings as s
    where m.converted_to_match_id is null and m.expires_at <= clock_timestamp()
    union all
    -- This part returns no row. It raises AH015 if row security would silently empty the part above. (If no policy applies
    -- to our role, the planner replaces that part by "false" and evaluates nothing in it. This part must not consist of
    -- constants only: the planner would remove it as well.)
    select
        -- named: a view that was restored from a dump is printed with names, and would count as edited
        nullif(md5(s.retention::text)::uuid, md5(s.retention::text)::uuid) as match_id, null as id, null as sender_id, null as body,
        null as created_at, null as expired_at, null as purge_after, null as is_held
    from after_hours.settings as s
    where not (select after_hours.assert_row_visibility())
) as r;
comment on view after_hours.retained_messages is
'Messages of expired unsaved matches: no longer in visible_messages, not yet deleted by the purge. Kept until '
'purge_after, longer while is_held. For moderators; query by match_id. Error AH015.';
alter view after_hours.retained_messages owner to after_hours_owner;
revoke all on after_hours.retained_messages from public;
grant select on after_hours.retained_messages to after_hours_moderator;
