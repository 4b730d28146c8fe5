create or replace function after_hours.replication_lag()
returns bigint
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: how far the slowest connected replica is behind. The purge sleeps while it is too far.
    -- Returns: bytes of WAL not yet replayed there; 0 without replicas.
    -- Locks:   none. Owned by after_hours_jobs: it needs pg_monitor to see the positions.
    -- Access:  after_hours_dba, after_hours_jobs.
    select case
        when pg_is_in_recovery() then 0
        else coalesce((select max(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), r.replay_lsn)) from pg_stat_get_wal_senders() as r), 0)::bigint
    end;
$$;
comment on function after_hours.replication_lag() is
'Bytes of WAL that the slowest connected replica has not yet replayed; the purge sleeps between batches above settings.purge_max_lag.';
alter function after_hours.replication_lag() owner to after_hours_jobs;
revoke all on function after_hours.replication_lag() from public;
grant execute on function after_hours.replication_lag() to after_hours_owner, after_hours_jobs, after_hours_dba;
