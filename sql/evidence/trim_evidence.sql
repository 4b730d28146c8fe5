create or replace function after_hours.trim_evidence()
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    v_before timestamptz := (
        select (clock_timestamp() at time zone 'UTC' - s.tombstone_retention) at time zone 'UTC' from after_hours.settings as s
    );
    v_last after_hours.purge_batches;
    v_count integer := 0;
    v_runs integer;
begin
    -- Purpose: delete evidence older than settings.tombstone_retention: whole batches, the oldest first. The hash of the
    --          last one stays as the anchor, so that the rest can still be verified. Runs without a batch left are deleted
    --          as well. Nothing is deleted while the brake is on: a wrong clock must not delete evidence.
    -- Returns: the number of batches and runs deleted; call again until 0.
    -- Locks:   the chain's head, then up to 200 batches.
    -- Access:  after_hours_dba, after_hours_jobs.
    if not exists (select from after_hours.purge_runs as r where r.started_at < v_before) or (after_hours.brake()).is_on then
        return 0;
    end if;
    perform from after_hours.evidence_chain as c for update;
    -- the chain is trimmed from its start only: no batch after one that must stay
    select b.*
    into v_last
    from (
        select o.*, bool_and(o.committed_at < v_before) over (order by o.seq) as is_old
        from after_hours.purge_batches as o
        where o.seq <= (select min(f.seq) + 199 from after_hours.purge_batches as f)
    ) as b
    where b.is_old
    order by b.seq desc
    limit 1;
    if found then
        delete from after_hours.purged_matches as t where t.seq <= v_last.seq;
        delete from after_hours.purge_batches as b where b.seq <= v_last.seq;
        get diagnostics v_count = row_count;
        update after_hours.evidence_chain as c set anchor_seq = v_last.seq, anchor_hash = v_last.hash;
    end if;
    delete from after_hours.purge_runs as r
    where r.id in (
        select o.id
        from after_hours.purge_runs as o
        where o.started_at < v_before and o.status <> 'running'
            and not exists (select from after_hours.purge_batches as b where b.run_id = o.id)
        limit 1000
    );
    get diagnostics v_runs = row_count;
    return v_count + v_runs;
end
$$;
comment on function after_hours.trim_evidence() is
'Trims evidence older than settings.tombstone_retention, whole oldest batches only, and keeps the last trimmed hash as '
'the chain''s anchor; nothing while the brake is on. Returns the number of batches and runs deleted.';
alter function after_hours.trim_evidence() owner to after_hours_owner;
revoke all on function after_hours.trim_evidence() from public;
grant execute on function after_hours.trim_evidence() to after_hours_jobs, after_hours_dba;
