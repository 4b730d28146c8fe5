create or replace function after_hours.tombstone_digests(p_match_ids uuid[], p_expired_at timestamptz[], p_messages bigint[])
returns bytea
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: a digest of four bytes per tombstone. The proof is the hash of the batch; the digests only show which row
    --          differs when that hash is wrong.
    -- Returns: per tombstone, in the order of the ids, the first 4 bytes of sha256 over its fields as the server sends them.
    -- Locks:   none.
    -- Access:  internal.
    select string_agg(substr(sha256(uuid_send(t.match_id) || timestamptz_send(t.expired_at) || int8send(t.messages)), 1, 4), ''
        order by t.match_id)
    from unnest(p_match_ids, p_expired_at, p_messages) as t (match_id, expired_at, messages);
$$;
comment on function after_hours.tombstone_digests(uuid[], timestamptz[], bigint[]) is
'Four bytes of sha256 over each tombstone, in the order of the ids. Stored with each batch, so that a changed '
'tombstone can be named.';
alter function after_hours.tombstone_digests(uuid[], timestamptz[], bigint[]) owner to after_hours_owner;
revoke all on function after_hours.tombstone_digests(uuid[], timestamptz[], bigint[]) from public;
