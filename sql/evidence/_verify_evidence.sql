create or replace function after_hours._verify_evidence()
returns table (run_id bigint, batch integer, ok boolean, detail text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: recompute the whole chain: each batch's hash from its tombstones and the hash before it, from the anchor
    --          to the head. Reads one snapshot: a purge may run meanwhile.
    -- Returns: a row per batch in the order of the chain; the first with ok = false is where the chain was changed, and
    --          detail names the tombstone; then one row (run_id null) about the whole chain.
    -- Locks:   none: the caller has locked what is read.
    -- Access:  internal.
    with batches as (
        select
            b.*,
            coalesce(lag(b.hash) over (order by b.seq), c.anchor_hash) as expected_prev,
            coalesce(lag(b.seq) over (order by b.seq), c.anchor_seq) + 1 as expected_seq
        from after_hours.purge_batches as b
        cross join after_hours.evidence_chain as c
    ),

    checked as (
        select
            b.seq, b.run_id, b.batch, b.hash,
            case
                when b.seq <> b.expected_seq then format('batch %s of the chain is missing', b.expected_seq)
                when b.prev_hash <> b.expected_prev then 'does not follow the batch before it'
                when t.tombstones <> b.matches
                    then format('%s tombstones instead of %s', t.tombstones, b.matches)
                when t.messages <> b.messages then format('tombstones add up to %s messages instead of %s', t.messages, b.messages)
                when t.hash <> b.hash then 'a tombstone or the batch''s row was changed'
            end as wrong
        from batches as b
        cross join lateral (
            select
                count(*) as tombstones,
                coalesce(sum(a.messages), 0) as messages,
                after_hours.evidence_hash(
                    b.prev_hash, b.seq, b.run_id, b.batch, b.committed_at,
                    array_agg(a.match_id order by a.match_id), array_agg(a.expired_at order by a.match_id),
                        array_agg(a.messages order by a.match_id)
                ) as hash
            from after_hours.purged_matches as a
            where a.seq = b.seq
        ) as t
    ),

    summary as (
        select
            count(*) as batches,
            count(*) filter (where k.wrong is not null) as broken,
            max(k.seq) as last_seq,
            (
                select count(*)
                from after_hours.purged_matches as t
                where not exists (select from after_hours.purge_batches as b where b.seq = t.seq)
            ) as strays,
            (array_agg(k.hash order by k.seq desc))[1] as last_hash,
            (array_agg(format('run %s batch %s (%s of the chain)', k.run_id, k.batch, k.seq) order by k.seq)
                filter (where k.wrong is not null))[1] as first_broken
        from checked as k
    )

    select x.run_id, x.batch, x.ok, concat_ws(': ', x.detail, case when not x.ok then after_hours.find_broken_tombstone(x.seq) end)
    from (
        select t.seq, null::bigint as run_id, null::integer as batch, false as ok,
            format('%s tombstones belong to batch %s of the chain, which is missing', count(*), t.seq) as detail
        from after_hours.purged_matches as t
        where not exists (select from after_hours.purge_batches as b where b.seq = t.seq)
        group by t.seq
        union all
        select k.seq, k.run_id, k.batch, k.wrong is null, coalesce(k.wrong, 'ok')
        from checked as k
        union all
        select
            null, null, null,
            s.broken = 0 and s.strays = 0 and coalesce(s.last_seq, c.anchor_seq) = c.head_seq
                and coalesce(s.last_hash, c.anchor_hash) = c.head_hash,
            case
                when s.broken > 0 then format('%s of %s batches are broken, the first is %s', s.broken, s.batches, s.first_broken)
                when s.strays > 0 then format('%s tombstones belong to no batch', s.strays)
                when coalesce(s.last_seq, c.anchor_seq) < c.head_seq
                    then format('the last batches are missing: the chain ends at %s, its head is %s',
                        coalesce(s.last_seq, c.anchor_seq), c.head_seq)
                when coalesce(s.last_seq, c.anchor_seq) <> c.head_seq or coalesce(s.last_hash, c.anchor_hash) <> c.head_hash
                    then 'the head of the chain was changed'
                else format('%s batches verified, from anchor %s to head %s: %s', s.batches, c.anchor_seq, c.head_seq,
                    encode(c.head_hash, 'hex'))
            end
        from summary as s
        cross join after_hours.evidence_chain as c
    ) as x
    order by x.seq nulls last;
$$;
comment on function after_hours._verify_evidence() is
'The answer of verify_evidence() in one snapshot. Internal, called by it alone: it locks the tables first.';
alter function after_hours._verify_evidence() owner to after_hours_owner;
revoke all on function after_hours._verify_evidence() from public;
