create or replace function after_hours.record_tombstones(
    p_run_id bigint, p_batch integer, p_match_ids uuid[], p_expired_at timestamptz[], p_messages bigint[]
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_chain after_hours.evidence_chain;
    v_at timestamptz;
    v_hash bytea;
begin
    -- Purpose: add a batch to the evidence chain: a tombstone per deleted match, and the hash over them and the previous
    --          hash. The three arrays are parallel; p_batch counts the batches of the run from 1.
    -- Returns: nothing.
    -- Locks:   the head of the chain FOR UPDATE, until the caller commits.
    -- Access:  internal.
    select c.* into v_chain from after_hours.evidence_chain as c for update;
    v_at := clock_timestamp();
    v_hash := after_hours.evidence_hash(
        v_chain.head_hash, v_chain.head_seq + 1, p_run_id, p_batch, v_at, p_match_ids, p_expired_at, p_messages
    );
    update after_hours.evidence_chain as c set head_seq = v_chain.head_seq + 1, head_hash = v_hash;
    insert into after_hours.purge_batches (seq, run_id, batch, matches, messages, committed_at, prev_hash, hash, digests)
    select
        v_chain.head_seq + 1, p_run_id, p_batch, cardinality(p_match_ids), (select sum(m.n) from unnest(p_messages) as m (n)),
        v_at, v_chain.head_hash, v_hash, after_hours.tombstone_digests(p_match_ids, p_expired_at, p_messages);
    insert into after_hours.purged_matches (match_id, seq, expired_at, messages)
    select x.match_id, v_chain.head_seq + 1, x.expired_at, x.messages
    from unnest(p_match_ids, p_expired_at, p_messages) as x (match_id, expired_at, messages);
end
$$;
comment on function after_hours.record_tombstones(bigint, integer, uuid[], timestamptz[], bigint[]) is
'Writes the tombstones of one batch and links them into the evidence chain. Internal, used by purge_batch().';
alter function after_hours.record_tombstones(bigint, integer, uuid[], timestamptz[], bigint[]) owner to after_hours_owner;
revoke all on function after_hours.record_tombstones(bigint, integer, uuid[], timestamptz[], bigint[]) from public;
