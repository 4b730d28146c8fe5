create or replace function after_hours.purged_at(p_match_id uuid)
returns timestamptz
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: when a match was purged. Only the DBA may read the tombstones themselves.
    -- Returns: the instant of the batch; null if there is no tombstone.
    -- Locks:   none.
    -- Access:  after_hours_app, after_hours_dba, after_hours_moderator.
    select b.committed_at
    from after_hours.purged_matches as t
    join after_hours.purge_batches as b on b.seq = t.seq
    where t.match_id = p_match_id
    order by t.seq desc
    limit 1;
$$;
comment on function after_hours.purged_at(uuid) is
'When the match was purged; null if it has no tombstone (they are kept for settings.tombstone_retention).';
alter function after_hours.purged_at(uuid) owner to after_hours_owner;
revoke all on function after_hours.purged_at(uuid) from public;
grant execute on function after_hours.purged_at(uuid) to after_hours_app, after_hours_moderator, after_hours_dba;
