create or replace view after_hours.retained_messages
with (security_barrier = true)
as
-- Not a wrapper over a function like the others: match_id = … must reach the index. The union stands in FROM: of a view
-- that is a union itself PostgreSQL ignores the barrier, and hands every row to the reader's own functions.
select r.match_id, r.id, r.sender_id, r.body, r.created_at, r.expired_at, r.purge_after, r.is_held
from (
    select
        g.match_id, g.id, g.sender_id, g.body, g.created_at, m.expires_at as expired_at,
        (m.expires_at at time zone 'UTC' + s.retention) at time zone 'UTC' as purge_after,
        exists (select from after_hours.holds as h where h.match_id = m.id)
        or exists (select from after_hours.holds as h where h.user_id = m.user_a)
        or exists (select from after_hours.holds as h where h.user_id = m.user_b) as is_held
    from public.after_hours_messages as g
    join public.after_hours_matches as m on m.id = g.match_id
    cross join after_hours.settings as s
    where m.converted_to_match_id is null and m.expires_at <= clock_timestamp()
    union all
    -- Never a row: raises AH015 if row security would make the part above silently empty. (A policy without a rule for us
    -- turns that part into "false" before anything in it is evaluated; and of constants this one would be pruned as well.)
    select
        nullif(md5(s.retention::text)::uuid, md5(s.retention::text)::uuid), null, null, null, null, null, null, null
    from after_hours.settings as s
    where not (select after_hours.assert_row_visibility())
) as r;
comment on view after_hours.retained_messages is
'What visible_messages no longer shows and the purge has not yet deleted: messages of expired unsaved matches, until '
'when they are kept (purge_after, longer while is_held). For moderators; ask by match_id. Error AH015.';
alter view after_hours.retained_messages owner to after_hours_owner;
revoke all on after_hours.retained_messages from public;
grant select on after_hours.retained_messages to after_hours_moderator;
