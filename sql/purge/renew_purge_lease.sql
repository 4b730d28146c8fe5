create or replace function after_hours.renew_purge_lease(p_run_id bigint, p_is_stuck boolean default false)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set lock_timeout = '50ms'
as $$
declare
    v_xids xid[] := '{}';
begin
    -- Purpose: keep this session's own open run alive while its batches can't have their locks; for one that is stuck, note
    --          who holds them. A batch that ends renews the lease itself.
    -- Returns: nothing.
    -- Locks:   the run's row, 50 ms at most; if it is not free, the lease stays as it is until the next attempt.
    -- Access:  after_hours_dba, after_hours_jobs.
    perform after_hours._assert_tables();
    if p_is_stuck then
        begin
            select coalesce(array_agg(o.xmax), '{}')
            into v_xids
            from (
                select m.xmax
                from public.after_hours_matches as m
                where m.converted_to_match_id is null and m.expires_at < after_hours.purge_cutoff()
                order by m.expires_at, m.id
                limit 100
            ) as o;
        exception when lock_not_available then
            null; -- the table is locked, not its rows
        end;
    end if;
    update after_hours.purge_runs as r
    set lease_until = clock_timestamp() + interval '1 minute',
        waits_for = case
            when p_is_stuck then (
                select string_agg(distinct l.description, '; ')
                from after_hours.list_lock_holders(v_xids) as l
                where l.object = 'a row' or l.object !~ ' on public.after_hours_sessions$'
            )
        end
    where r.id = p_run_id and r.status = 'running' and r.backend_pid = pg_backend_pid();
exception when lock_not_available or deadlock_detected or serialization_failure then
    return;
end
$$;
comment on function after_hours.renew_purge_lease(bigint, boolean) is
'Renews the lease of the session''s own open purge run by a minute, for purge() after a batch that could not have its locks; '
'p_is_stuck: notes in purge_runs.waits_for who holds them.';
alter function after_hours.renew_purge_lease(bigint, boolean) owner to after_hours_owner;
revoke all on function after_hours.renew_purge_lease(bigint, boolean) from public;
grant execute on function after_hours.renew_purge_lease(bigint, boolean) to after_hours_jobs, after_hours_dba;
