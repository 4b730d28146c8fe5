create or replace function after_hours.find_broken_tombstone(p_seq bigint)
returns text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: find a tombstone that differs from what was written, by the digests stored with the batch.
    -- Returns: a description of the first one; null if no digest differs or the batch is missing.
    -- Locks:   none.
    -- Access:  internal.
    with written as (
        select n.nr, substr(b.digests, 4 * n.nr - 3, 4) as digest
        from after_hours.purge_batches as b
        cross join lateral generate_series(1, octet_length(b.digests) / 4) as n (nr)
        where b.seq = p_seq
    ),

    found as (
        select t.match_id, after_hours.tombstone_digests(array[t.match_id], array[t.expired_at], array[t.messages]) as digest
        from after_hours.purged_matches as t
        where t.seq = p_seq
    ),

    other as (
        select min(f.match_id::text) as match_id
        from found as f
        where not exists (select from written as w where w.digest = f.digest)
    ),

    gone as (
        select min(w.nr) as nr
        from written as w
        where not exists (select from found as f where f.digest = w.digest)
    )

    select case
        when o.match_id is not null and g.nr is not null then format('the tombstone of match %s was changed', o.match_id)
        when o.match_id is not null then format('the tombstone of match %s was added', o.match_id)
        when g.nr is not null then format('the tombstone no. %s in the order of the ids was removed', g.nr)
    end
    from other as o
    cross join gone as g
    where exists (select from written);
$$;
comment on function after_hours.find_broken_tombstone(bigint) is
'Inner part of verify_evidence(): names the first tombstone of a batch that differs from what was written; null if none '
'differs or the batch is missing.';
alter function after_hours.find_broken_tombstone(bigint) owner to after_hours_owner;
revoke all on function after_hours.find_broken_tombstone(bigint) from public;
