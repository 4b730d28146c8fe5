create or replace function after_hours.evidence_hash(
    p_prev_hash bytea, p_seq bigint, p_run_id bigint, p_batch integer, p_committed_at timestamptz,
    p_match_ids uuid[], p_expired_at timestamptz[], p_messages bigint[]
)
returns bytea
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: the hash of one batch: sha256 over the previous hash and a text of fixed format, so that it can be
    --          recomputed elsewhere. A header line, then a line per tombstone in the order of the ids.
    -- Returns: 32 bytes.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    select sha256(
        p_prev_hash || convert_to(
            format(
                E'after_hours evidence 1\nbatch %s run %s.%s at %s\n',
                p_seq, p_run_id, p_batch, to_char(p_committed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            )
            || coalesce(
                string_agg(
                    t.match_id::text || ' '
                    || case
                        when isfinite(t.expired_at)
                            then to_char(t.expired_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                        else '-infinity'
                    end
                    || ' ' || t.messages::text || E'\n',
                    '' order by t.match_id
                ),
                ''
            ),
            'UTF8'
        )
    )
    from unnest(p_match_ids, p_expired_at, p_messages) as t (match_id, expired_at, messages);
$$;
comment on function after_hours.evidence_hash(bytea, bigint, bigint, integer, timestamptz, uuid[], timestamptz[], bigint[]) is
'sha256(previous hash || "after_hours evidence 1\n" || "batch <seq> run <run>.<batch> at <instant>\n" || per tombstone, '
'by id: "<match> <expiry> <messages>\n"); instants in UTC with microseconds and Z.';
alter function after_hours.evidence_hash(bytea, bigint, bigint, integer, timestamptz, uuid[], timestamptz[], bigint[])
owner to after_hours_owner;
revoke all on function after_hours.evidence_hash(bytea, bigint, bigint, integer, timestamptz, uuid[], timestamptz[], bigint[])
from public;
grant execute on function after_hours.evidence_hash(bytea, bigint, bigint, integer, timestamptz, uuid[], timestamptz[], bigint[])
to after_hours_dba;
