create or replace view after_hours.visible_messages
with (security_invoker = true, security_barrier = true)
as
select g.match_id, g.id, g.sender_id, g.body, g.created_at
from public.after_hours_messages as g
join public.after_hours_matches as m on m.id = g.match_id
where m.converted_to_match_id is not null or m.expires_at > clock_timestamp();
comment on view after_hours.visible_messages is
'Messages that users may see: those of running and of saved matches. Those of an expired unsaved match disappear at its '
'deadline; the rows stay for moderation until the purge. The view alone enforces nothing: to enforce it, revoke SELECT on '
'public.after_hours_messages from the application and grant it this view instead (made without security_invoker).';
alter view after_hours.visible_messages owner to after_hours_owner;
revoke all on after_hours.visible_messages from public;
grant select on after_hours.visible_messages to after_hours_app;
