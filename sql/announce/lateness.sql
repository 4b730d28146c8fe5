create or replace view after_hours.lateness
with (security_barrier = true)
as
select
    date_trunc('hour', e.emitted_at at time zone 'UTC') at time zone 'UTC' as hour,
    e.type,
    e.known_ahead,
    count(*) as events,
    round((percentile_cont(0.5) within group (order by extract(epoch from e.emitted_at - e.due_at)) * 1000)::numeric, 1) as p50_ms,
    round((percentile_cont(0.99) within group (order by extract(epoch from e.emitted_at - e.due_at)) * 1000)::numeric, 1) as p99_ms,
    round(max(extract(epoch from e.emitted_at - e.due_at)) * 1000, 1) as max_ms
from after_hours.events as e
group by 1, 2, 3
order by 1 desc, 2, 3 desc;
comment on view after_hours.lateness is
'How late events were emitted, per hour and type, in milliseconds, for all events that are kept. known_ahead: true where the '
'announcer knew of them before; false for deadlines that were set late, committed late or locked. Costs: reads all events.';
alter view after_hours.lateness owner to after_hours_owner;
revoke all on after_hours.lateness from public;
grant select on after_hours.lateness to after_hours_dba;
