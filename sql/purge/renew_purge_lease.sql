create or replace function after_hours.renew_purge_lease(p_run_id bigint)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms'
as $$
begin
    -- Purpose: keep this session's own open run alive while its batches can't have their locks. A batch that ends renews the
    --          lease itself.
    -- Returns: nothing.
    -- Locks:   the run's row, 50 ms at most; if it is not free, the lease stays as it is until the next attempt.
    -- Access:  after_hours_dba, after_hours_jobs.
    update after_hours.purge_runs as r
    set lease_until = clock_timestamp() + interval '1 minute'
    where r.id = p_run_id and r.status = 'running' and r.backend_pid = pg_backend_pid();
exception when lock_not_available or deadlock_detected or serialization_failure then
    return;
end
$$;
comment on function after_hours.renew_purge_lease(bigint) is
'Renews the lease of the session''s own open purge run by a minute, for purge() after a batch that could not have its locks.';
alter function after_hours.renew_purge_lease(bigint) owner to after_hours_owner;
revoke all on function after_hours.renew_purge_lease(bigint) from public;
grant execute on function after_hours.renew_purge_lease(bigint) to after_hours_jobs, after_hours_dba;
