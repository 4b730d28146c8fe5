create or replace function after_hours.relay_beat(
    p_node text, p_state text, p_mode text, p_sockets integer, p_canary interval, p_started_at timestamptz
)
returns table (wants_rescue boolean, wants_receipts boolean, heartbeat_age interval, queue_usage double precision)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s' -- below the relay's limit for a call: it asks again over the same connection
as $$
begin
    -- Purpose: heartbeat of a relay: writes its state (or removes its row if p_state is 'stopped') and returns its tasks.
    -- Returns: whether it should call relay_rescue() (no heartbeat of the emitter for 65 s, and no pause), whether receipts
    --          are on, the age of the emitter's heartbeat, and the usage of the notification queue (0 to 1).
    -- Locks:   its own row of relays.
    -- Access:  after_hours_relay.
    if p_state = 'stopped' then
        delete from after_hours.relays as r where r.node = left(p_node, 200);
    else
        insert into after_hours.relays as r (node, state, mode, sockets, canary, started_at, seen_at)
        values (left(p_node, 200), p_state, p_mode, p_sockets, p_canary, p_started_at, clock_timestamp())
        on conflict (node) do update
            set state = excluded.state, mode = excluded.mode, sockets = excluded.sockets, canary = excluded.canary,
                started_at = excluded.started_at, seen_at = excluded.seen_at;
    end if;
    delete from after_hours.relays as r where r.seen_at < clock_timestamp() - interval '1 day';
    return query
    select
        s.rescue and not after_hours.is_paused('announce') and after_hours.needs_rescue(),
        s.receipts, clock_timestamp() - m.heartbeat_at, pg_notification_queue_usage()
    from after_hours.settings as s
    cross join after_hours.emitter as m;
end
$$;
comment on function after_hours.relay_beat(text, text, text, integer, interval, timestamptz) is
'Writes a relay''s row (state, mode, sockets, canary round trip) and returns its tasks: a rescue pass, receipts.';
alter function after_hours.relay_beat(text, text, text, integer, interval, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.relay_beat(text, text, text, integer, interval, timestamptz) from public;
grant execute on function after_hours.relay_beat(text, text, text, integer, interval, timestamptz) to after_hours_relay;
