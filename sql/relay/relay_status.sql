create or replace function after_hours.relay_status()
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set lock_timeout = '250ms'
as $$
declare
    c_id constant text := '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}';
    c_now constant jsonb := '{"retention": null, "epoch": null, "head": null, "floor": null, "heartbeatAgeSeconds": null, "queueUsage": null}';
    v_part record;
    v_answer jsonb;
    v_parts jsonb := '{}';
    v_faults jsonb := '[]';
    v_message text;
begin
    -- Purpose: data for a relay's page /ops: aggregates only, no user ids; ids inside messages are masked. Each part in a
    --          handler of its own: one that raises is null, and a row of health says why.
    -- Returns: JSON text: log position, heartbeat, relays, health, gauges, jobs, purges of 14 days, backlog, lateness of 24 hours
    --          (of at most 50,000 events), deadlines of the next 30 minutes (of at most 1,000 of each), receipts.
    -- Locks:   all tables ACCESS SHARE, where they are free within 250 ms; takes some 10 ms, a second with a large backlog.
    -- Access:  after_hours_relay.
    begin
        perform after_hours._share_tables(); -- what reads them afterwards sees all rows, whoever rewrites a table
    exception when others then
        null; -- the part that reads that table is null
    end;
    for v_part in
        select p.key, p.query
        from (
            values
            ('now', $q$
                select json_build_object(
                    'retention', s.retention::text, 'epoch', l.epoch, 'head', l.head, 'floor', l.floor,
                    'heartbeatAgeSeconds', round(extract(epoch from clock_timestamp() - m.heartbeat_at), 1),
                    'queueUsage', pg_notification_queue_usage()
                )
                from after_hours.log_position() as l
                cross join after_hours.emitter as m
                cross join after_hours.settings as s
            $q$),
            ('lastHour', $q$
                select json_build_object(
                    'events', count(*),
                    'latenessP50Ms', round((percentile_cont(0.5) within group (order by e.late) filter (where e.known_ahead))::numeric, 1),
                    'latenessP99Ms', round((percentile_cont(0.99) within group (order by e.late) filter (where e.known_ahead))::numeric, 1),
                    'setLate', count(*) filter (where not e.known_ahead),
                    'setLateP50Ms', round((percentile_cont(0.5) within group (order by e.late) filter (where not e.known_ahead))::numeric, 1),
                    'setLateP99Ms', round((percentile_cont(0.99) within group (order by e.late) filter (where not e.known_ahead))::numeric, 1),
                    'written', count(r.first_write),
                    'acknowledged', count(r.first_ack),
                    'ackP50Ms', round((percentile_cont(0.5) within group (order by extract(epoch
                        from r.first_ack - e.emitted_at)))::numeric * 1000, 1)
                )
                from (select *, extract(epoch from emitted_at - due_at) * 1000 as late from after_hours.events) as e
                left join lateral (
                    select min(c.first_write) as first_write, min(c.first_ack) as first_ack
                    from after_hours.receipts as c
                    where c.uid = e.uid
                ) as r on true
                where e.id > $1 - 10000 and e.emitted_at > clock_timestamp() - interval '1 hour'
            $q$),
            ('unreachedWarnings', $q$
                select to_json(count(*)) from after_hours.unreached_warnings
            $q$),
            ('relays', $q$
                select json_agg(json_build_object(
                    'node', r.node, 'state', r.state, 'mode', r.mode, 'sockets', r.sockets,
                    'canaryMs', round(extract(epoch from r.canary) * 1000, 1),
                    'seenSecondsAgo', round(extract(epoch from clock_timestamp() - r.seen_at), 1)
                ) order by r.node)
                from after_hours.relays as r
            $q$),
            ('health', $q$
                select json_agg(json_build_object(
                    'check', h.check_name, 'ok', h.ok,
                    'detail', regexp_replace(h.detail, $2, '(id)', 'g'),
                    'next', regexp_replace(h.next_command, $2, '(id)', 'g')
                ))
                from after_hours.health as h
            $q$),
            ('gauges', $q$
                select json_agg(json_build_object('name', g.name, 'value', g.value, 'description', g.description))
                from after_hours.list_gauges() as g
            $q$),
            ('jobs', $q$
                select json_agg(json_build_object(
                    'job', j.job, 'schedule', j.schedule, 'isActive', j.is_active, 'isRunning', j.is_running,
                    'nextRun', after_hours.iso_utc(j.next_run), 'lastStart', after_hours.iso_utc(j.last_start),
                    'lastSeconds', round(extract(epoch from j.last_duration), 1), 'lastStatus', j.last_status, 'purpose', j.purpose
                ))
                from after_hours.jobs as j
            $q$),
            ('purges', $q$
                select json_agg(json_build_object(
                    'day', d.day, 'matches', p.matches, 'messages', p.messages, 'seconds', p.seconds, 'statuses', p.statuses
                ) order by d.day)
                from (
                    select ((clock_timestamp() at time zone 'UTC')::date - g.ago) as day from generate_series(0, 13) as g (ago)
                ) as d
                cross join lateral (
                    select
                        coalesce(sum(h.matches), 0) as matches, coalesce(sum(h.messages), 0) as messages,
                        coalesce(round(extract(epoch from sum(h.duration)), 1), 0) as seconds,
                        string_agg(distinct h.status, ', ' order by h.status) as statuses
                    from after_hours.purge_history as h
                    where h.started_at >= d.day at time zone 'UTC' and h.started_at < (d.day + 1) at time zone 'UTC'
                ) as p
            $q$),
            ('backlog', $q$
                select json_agg(json_build_object('day', b.due_day, 'matches', b.matches, 'held', b.held, 'setAside', b.set_aside)
                    order by b.due_day)
                from (select * from after_hours.backlog as b order by b.due_day limit 31) as b
            $q$),
            ('lateness', $q$
                select json_agg(json_build_object('hour', after_hours.iso_utc(x.hour), 'events', x.events, 'p50Ms', x.p50, 'p99Ms',
                    x.p99) order by x.hour)
                from (
                    select
                        date_trunc('hour', e.emitted_at at time zone 'UTC') at time zone 'UTC' as hour,
                        count(*) as events,
                        round((percentile_cont(0.5) within group (order by extract(epoch
                            from e.emitted_at - e.due_at)))::numeric * 1000, 1) as p50,
                        round((percentile_cont(0.99) within group (order by extract(epoch
                            from e.emitted_at - e.due_at)))::numeric * 1000, 1) as p99
                    from after_hours.events as e
                    where e.known_ahead and e.id > $1 - 50000 and e.emitted_at > date_trunc('hour', clock_timestamp()) - interval '23 hours'
                    group by 1
                ) as x
            $q$),
            ('upcoming', $q$
                select json_agg(json_build_object('minute', after_hours.iso_utc(x.minute), 'warnings', x.warnings, 'ends', x.ends)
                    order by x.minute)
                from (
                    select
                        date_trunc('minute', greatest(u.due_at, clock_timestamp())) as minute,
                        count(*) filter (where u.type = 'after_hours:session_expiring') as warnings,
                        count(*) filter (where u.type = 'after_hours:session_expired') as ends
                    from after_hours.upcoming as u
                    where u.due_in < interval '30 minutes'
                    group by 1
                ) as x
            $q$)
        ) as p (key, query)
    loop
        begin
            execute v_part.query into v_answer using (v_parts -> 'now' ->> 'head')::bigint, c_id;
            v_answer := coalesce(v_answer, '[]');
        exception when others then
            get stacked diagnostics v_message = message_text;
            v_message := regexp_replace(v_message, c_id, '(id)', 'g');
            v_answer := null;
            v_faults := v_faults || jsonb_build_object(
                'check', 'status: ' || v_part.key, 'ok', false, 'detail', format('can''t be read: %s (%s)', v_message, sqlstate),
                'next', 'select * from after_hours.list_missing();'
            );
        end;
        v_parts := v_parts || jsonb_build_object(v_part.key, v_answer);
    end loop;
    return c_now || coalesce(nullif(v_parts -> 'now', 'null'), '{}') || (v_parts - 'now') || jsonb_build_object(
        'serverTime', after_hours.iso_utc(clock_timestamp()),
        'serverVersion', current_setting('server_version_num')::integer / 10000,
        'health', coalesce(nullif(v_parts -> 'health', 'null'), '[]') || v_faults
    );
end
$$;
comment on function after_hours.relay_status() is
'Aggregates for /ops as JSON: log position, relays, health, gauges, jobs, purges, backlog, lateness, deadlines ahead, receipts. '
'No user ids.';
alter function after_hours.relay_status() owner to after_hours_owner;
revoke all on function after_hours.relay_status() from public;
grant execute on function after_hours.relay_status() to after_hours_relay;
