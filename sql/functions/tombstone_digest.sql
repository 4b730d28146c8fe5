create or replace function after_hours.tombstone_digest(p_match_id uuid, p_expired_at timestamptz, p_messages bigint)
returns bytea
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: four bytes that tell one tombstone from another: not proof (that is the batch's hash) but a finger on the
    --          row when the hash is wrong.
    -- Returns: the first 4 bytes of sha256 over the three fields as the server sends them in binary.
    -- Locks:   none.   Called by: purge_batch, broken_tombstone.
    select substr(sha256(uuid_send(p_match_id) || timestamptz_send(p_expired_at) || int8send(p_messages)), 1, 4);
$$;
comment on function after_hours.tombstone_digest(uuid, timestamptz, bigint) is
'Four bytes of sha256 over a tombstone. A batch keeps those of its tombstones, in the order of the ids, so that a changed one can be named.';
alter function after_hours.tombstone_digest(uuid, timestamptz, bigint) owner to after_hours_owner;
revoke all on function after_hours.tombstone_digest(uuid, timestamptz, bigint) from public;
