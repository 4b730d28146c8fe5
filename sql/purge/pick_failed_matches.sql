create or replace function after_hours.pick_failed_matches(
    p_run_id bigint, p_cutoff timestamptz, out picked uuid[], out tried integer
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_tried uuid[];
begin
    -- Purpose: pick matches whose deletion raised an error in earlier runs for another attempt in this run, 20 at a time.
    --          Those that are no longer overdue are removed from purge_failures.
    -- Returns: picked: the ids that were locked; tried: how many were examined, 0 at the end of the list.
    -- Locks:   rows of purge_failures; the matches FOR UPDATE SKIP LOCKED.
    -- Access:  internal.
    with due as (
        select f.match_id
        from after_hours.purge_failures as f
        where f.run_id <> p_run_id
        order by f.last_at
        limit 20
    ),

    tried as (
        update after_hours.purge_failures as f
        set run_id = p_run_id
        from due as d
        where f.match_id = d.match_id
        returning f.match_id
    )

    select coalesce(array_agg(t.match_id), '{}') into v_tried from tried as t;
    delete from after_hours.purge_failures as f
    where f.match_id = any(v_tried) and not exists (
        select from after_hours.purgeable_matches as p where p.id = f.match_id and p.expires_at < p_cutoff
    );
    select coalesce(array_agg(c.id), '{}'), cardinality(v_tried)
    into picked, tried
    from (
        select m.id
        from public.after_hours_matches as m
        where m.id = any(v_tried)
        for update skip locked
    ) as c;
end
$$;
comment on function after_hours.pick_failed_matches(bigint, timestamptz) is
'Up to 20 matches that raised an error in earlier purge runs, to be retried in this one. Internal, used by purge_batch().';
alter function after_hours.pick_failed_matches(bigint, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.pick_failed_matches(bigint, timestamptz) from public;
