create or replace function after_hours.relay_receipts(
    p_node text, p_ids bigint[], p_uids uuid[], p_user_ids uuid[], p_written_at timestamptz[], p_acked_at timestamptz[]
)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s' -- below the relay's limit for a call: it asks again over the same connection
as $$
declare
    v_rows integer;
begin
    -- Purpose: record that a relay wrote an event to its user, and that the user's client acknowledged it.
    -- Returns: the number of receipts that are new or changed. The first write and the first acknowledgement are kept.
    --          An element counts only if its id, uid and user are those of one event; others (another user's, another
    --          epoch's) are dropped.
    -- Locks:   its rows of receipts.
    -- Access:  after_hours_relay.
    insert into after_hours.receipts as r (
        uid, node, epoch, event_id, type, session_id, user_id, due_at, emitted_at, first_write, first_ack
    )
    select e.uid, left(p_node, 200), e.epoch, e.id, e.type, e.session_id, e.user_id, e.due_at, e.emitted_at,
        min(a.written_at), min(a.acked_at)
    from unnest(p_ids, p_uids, p_user_ids, p_written_at, p_acked_at) as a (id, uid, user_id, written_at, acked_at)
    join after_hours.events as e on e.id = a.id and e.uid = a.uid and e.user_id = a.user_id
    where (select s.receipts from after_hours.settings as s)
    group by e.id
    on conflict (uid, node) do update
        set first_ack = excluded.first_ack
        where r.first_ack is null and excluded.first_ack is not null;
    get diagnostics v_rows = row_count;
    return v_rows;
end
$$;
comment on function after_hours.relay_receipts(text, bigint[], uuid[], uuid[], timestamptz[], timestamptz[]) is
'First write and first acknowledgement of events per node; events of other users or epochs are dropped.';
alter function after_hours.relay_receipts(text, bigint[], uuid[], uuid[], timestamptz[], timestamptz[]) owner to after_hours_owner;
revoke all on function after_hours.relay_receipts(text, bigint[], uuid[], uuid[], timestamptz[], timestamptz[]) from public;
grant execute on function after_hours.relay_receipts(text, bigint[], uuid[], uuid[], timestamptz[], timestamptz[]) to after_hours_relay;
