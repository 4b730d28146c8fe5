create or replace function after_hours.relay_attach(p_user_ids uuid[], p_cursors text[], p_issued_at timestamptz[])
returns table (
    ord integer, incarnation text, head bigint, start text, cursor text, state text, blocked_ms integer,
    ids bigint[], uids uuid[], cursors text[], bodies text[], due_ats timestamptz[], emitted_ats timestamptz[]
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: attach users to the event log: one row per element, in order: where each starts and what it has missed.
    -- Returns: start (fresh, replayed, reset, blocked); cursor: the user's position; state: the JSON that hello, snapshot
    --          and reset share; the missed events as arrays; head: the last event id that the answer covers; blocked_ms
    --          (null: the token is outdated).
    -- Locks:   the tables that it reads, ACCESS SHARE; then one snapshot.
    -- Access:  after_hours_relay.
    -- Locked first, read in a second statement: a snapshot taken before the wait for a rewriting ALTER TABLE sees an empty
    -- table, and would pass over its rows. One statement has one snapshot.
    lock table only
        after_hours.settings, after_hours.epochs, after_hours.event_floor, after_hours.events, after_hours.user_blocks,
        public.after_hours_sessions
    in access share mode;
    perform after_hours._assert_tables();
    return query select * from after_hours._relay_attach(p_user_ids, p_cursors, p_issued_at);
end
$$;
comment on function after_hours.relay_attach(uuid[], text[], timestamptz[]) is
'Where each of these users starts (fresh, replayed, reset, blocked), its snapshot and the events it has missed, at most '
'500. p_issued_at: iat of the user''s token. Errors: AH060.';
alter function after_hours.relay_attach(uuid[], text[], timestamptz[]) owner to after_hours_owner;
revoke all on function after_hours.relay_attach(uuid[], text[], timestamptz[]) from public;
grant execute on function after_hours.relay_attach(uuid[], text[], timestamptz[]) to after_hours_relay;
