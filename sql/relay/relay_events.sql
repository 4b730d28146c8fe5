create or replace function after_hours.relay_events(p_cursor text, p_limit integer default 1000)
returns table (
    kind text, incarnation text, start text, cursor text, more boolean,
    id bigint, uid uuid, user_id uuid, body text, due_at timestamptz, emitted_at timestamptz,
    issued_before timestamptz, blocked_ms integer, known_ahead boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s' -- below the relay's limit for a call: it asks again over the same connection
as $$
begin
    -- Purpose: the events of all users since a cursor; a relay follows the log with it.
    -- Returns: one row 'head' (start: fresh, replayed or reset; cursor: where this read ended; more: there are later
    --          events), then 'event' rows in id order, then 'block' rows: blocks changed in the last minute.
    -- Locks:   the tables that it reads, ACCESS SHARE; then one snapshot.
    -- Access:  after_hours_relay.
    -- Locked first, read in a second statement: a snapshot taken before the wait for a rewriting ALTER TABLE sees an empty
    -- table, and would pass over its rows. One statement has one snapshot.
    lock table only
        after_hours.settings, after_hours.epochs, after_hours.event_floor, after_hours.events, after_hours.user_blocks,
        public.after_hours_sessions
    in access share mode;
    perform after_hours._assert_tables();
    return query select * from after_hours._relay_events(p_cursor, p_limit);
end
$$;
comment on function after_hours.relay_events(text, integer) is
'The event log after a cursor, in id order, and the cursor to continue from; then recently changed blocks. p_limit: '
'rows per page, 1 to 10000.';
alter function after_hours.relay_events(text, integer) owner to after_hours_owner;
revoke all on function after_hours.relay_events(text, integer) from public;
grant execute on function after_hours.relay_events(text, integer) to after_hours_relay;
