create or replace view after_hours.unreached_warnings
with (security_barrier = true)
as
select w.id, w.user_id, w.session_id, w.expires_at, w.emitted_at, w.was_written
from after_hours.list_unreached_warnings() as w
order by w.expires_at;
comment on view after_hours.unreached_warnings is
'Recipients of push messages: valid warnings emitted at least 5 s ago and not acknowledged; id is the event''s, so that '
'each is sent once. Costs: the warnings of the last two minutes.';
alter view after_hours.unreached_warnings owner to after_hours_owner;
revoke all on after_hours.unreached_warnings from public;
grant select on after_hours.unreached_warnings to after_hours_app, after_hours_dba;
