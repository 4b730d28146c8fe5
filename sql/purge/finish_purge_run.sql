create or replace function after_hours.finish_purge_run(p_run_id bigint, p_status text, p_detail text default null)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: set the final status of a run: succeeded, partial, paused, braked, failed or abandoned. The only place that
    --          ends status running; the caller has checked that it may.
    -- Returns: nothing.
    -- Locks:   the run's row.
    -- Access:  internal.
    update after_hours.purge_runs as r
    set status = p_status,
        finished_at = clock_timestamp(),
        detail = nullif(concat_ws('; ', r.detail, p_detail, 'it waited for ' || r.waits_for), '')
    where r.id = p_run_id and r.status = 'running';
$$;
comment on function after_hours.finish_purge_run(bigint, text, text) is
'Ends an open purge run: status, finished_at, and a reason added to its detail. Internal.';
alter function after_hours.finish_purge_run(bigint, text, text) owner to after_hours_owner;
revoke all on function after_hours.finish_purge_run(bigint, text, text) from public;
