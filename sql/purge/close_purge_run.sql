create or replace function after_hours.close_purge_run(p_run_id bigint, p_status text, p_detail text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Purpose: close this session's own open run early: partial (its time is up) or failed (an error). Only purge_batch()
    --          closes a run as succeeded.
    -- Returns: nothing.
    -- Locks:   the run's row.
    -- Access:  after_hours_dba, after_hours_jobs.
    if p_status is null or p_status not in ('partial', 'failed') then
        raise exception using
            errcode = 'AH012',
            message = format('close_purge_run() can''t close a run as %L', p_status),
            hint = 'CALL after_hours.purge(); closes its runs itself.';
    end if;
    perform after_hours.finish_purge_run(r.id, p_status, p_detail)
    from after_hours.purge_runs as r
    where r.id = p_run_id and r.status = 'running' and r.backend_pid = pg_backend_pid();
end
$$;
comment on function after_hours.close_purge_run(bigint, text, text) is
'Closes the session''s own open purge run as partial or failed. Called by purge(). Error AH012.';
alter function after_hours.close_purge_run(bigint, text, text) owner to after_hours_owner;
revoke all on function after_hours.close_purge_run(bigint, text, text) from public;
grant execute on function after_hours.close_purge_run(bigint, text, text) to after_hours_jobs, after_hours_dba;
