create or replace function after_hours.relay_status()
returns text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: what a relay shows of the database on /ops: aggregates only, no user ids.
    -- Returns: JSON text: the log's position, events of the last hour, the emitter's heartbeat, the relays.
    -- Locks:   none.   Called by: each relay when somebody asks for /ops, and relay check.
    select json_build_object(
        'serverTime', after_hours.iso_utc(clock_timestamp()),
        'epoch', l.epoch,
        'head', l.head,
        'floor', l.floor,
        'heartbeatAgeSeconds', round(extract(epoch from clock_timestamp() - m.heartbeat_at), 1),
        'queueUsage', pg_notification_queue_usage(),
        'lastHour', (
            select json_build_object(
                'events', count(*),
                'latenessP50Ms', round((percentile_cont(0.5) within group (order by extract(epoch from e.emitted_at - e.due_at)))::numeric * 1000, 1),
                'latenessP99Ms', round((percentile_cont(0.99) within group (order by extract(epoch from e.emitted_at - e.due_at)))::numeric * 1000, 1)
            )
            from after_hours.events as e
            where e.id > l.head - 10000 and e.emitted_at > clock_timestamp() - interval '1 hour'
        ),
        'relays', coalesce((
            select json_agg(json_build_object(
                'node', r.node, 'state', r.state, 'mode', r.mode, 'sockets', r.sockets,
                'seenSecondsAgo', round(extract(epoch from clock_timestamp() - r.seen_at), 1)
            ) order by r.node)
            from after_hours.relays as r
        ), '[]'::json)
    )::text
    from after_hours.log_position() as l
    cross join after_hours.emitter as m;
$$;
comment on function after_hours.relay_status() is
'Aggregates for /ops as JSON: log position, lateness of the last hour (of at most 10,000 events), heartbeat, relays. No user ids. Source: DESIGN 5.';
alter function after_hours.relay_status() owner to after_hours_owner;
revoke all on function after_hours.relay_status() from public;
grant execute on function after_hours.relay_status() to after_hours_relay;
