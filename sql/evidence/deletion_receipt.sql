create or replace function after_hours.deletion_receipt(p_match_id uuid)
returns table (
    match_id uuid, expired_at timestamptz, purged_at timestamptz, messages bigint,
    run_id bigint, batch integer, trigger text, run_by text, retention interval,
    hash text, is_verified boolean, statement text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
begin
    -- Purpose: the proof that a match was deleted, for the user who asks or for an auditor.
    -- Returns: a row per deletion (a match id may be used again), the latest first; is_verified: the batch's hash,
    --          recomputed, is the stored one.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    perform after_hours._assert_tables();
    return query
    select
        t.match_id, t.expired_at, b.committed_at, t.messages, b.run_id, b.batch, r.trigger, r.run_by, r.retention,
        encode(b.hash, 'hex'),
        b.hash = (
            select after_hours.evidence_hash(
                b.prev_hash, b.seq, b.run_id, b.batch, b.committed_at,
                array_agg(a.match_id order by a.match_id), array_agg(a.expired_at order by a.match_id),
                    array_agg(a.messages order by a.match_id)
            )
            from after_hours.purged_matches as a
            where a.seq = b.seq
        ),
        format(
            'Match %s expired at %s and was deleted with its %s messages at %s, under a retention of %s, by purge run '
                '%s (%s, %s), batch %s of the evidence chain.',
            t.match_id, after_hours.iso_utc(t.expired_at), t.messages, after_hours.iso_utc(b.committed_at), r.retention,
            r.id, r.trigger, r.run_by, b.seq
        )
    from after_hours.purged_matches as t
    join after_hours.purge_batches as b on b.seq = t.seq
    join after_hours.purge_runs as r on r.id = b.run_id
    where t.match_id = p_match_id
    order by t.seq desc;
    if not found then
        raise exception using
            errcode = 'AH016',
            message = format('no purge of match %s is on record', p_match_id),
            detail = case
                when exists (select from public.after_hours_matches as m where m.id = p_match_id) then 'The match exists.'
                else 'It never existed, the application deleted it, or its tombstone is past settings.tombstone_retention.'
            end,
            hint = format('select * from after_hours.explain_match(%L);', p_match_id);
    end if;
end
$$;
comment on function after_hours.deletion_receipt(uuid) is
'The receipt of a purged match: when, how many messages, by which run and role; is_verified if the recomputed hash of '
'its batch is right. For the whole chain: verify_evidence(). Error AH016.';
alter function after_hours.deletion_receipt(uuid) owner to after_hours_owner;
revoke all on function after_hours.deletion_receipt(uuid) from public;
grant execute on function after_hours.deletion_receipt(uuid) to after_hours_dba;
