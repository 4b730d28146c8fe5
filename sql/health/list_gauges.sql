create or replace function after_hours.list_gauges(p_now timestamptz default clock_timestamp())
returns table (name text, value double precision, description text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    c_most constant integer := 10000;
begin
    -- Purpose: the figures of the database that are worth a curve and an alert; the relay shows them in /metrics.
    -- Returns: a row per figure; value is null where there is nothing to measure yet. Units are in the names. Counts of
    --          what may be large stop at 10,001.
    -- Locks:   none; short index scans.
    -- Access:  after_hours_dba.
    perform after_hours._assert_tables();
    return query
    select
        'last_successful_purge_timestamp_seconds',
        (select extract(epoch from max(r.finished_at)) from after_hours.purge_runs as r where r.status = 'succeeded' and r.match_id is null)
            ::double precision,
        'When the last full purge succeeded, in seconds since 1970'
    union all
    select
        'overdue_matches',
        (
            select count(*)
            from (
                select from after_hours.purgeable_matches as p where p.expires_at < after_hours.purge_cutoff() limit c_most + 1
            ) as p
        ),
        'Matches that the next purge deletes, counted up to 10,001'
    union all
    select
        'not_purged_matches', (select count(*) from (select from after_hours.purge_failures limit c_most + 1) as f),
        'Overdue matches that could not be deleted, counted up to 10,001'
    union all
    select
        'set_aside_sessions',
        (select count(*) from (select from after_hours.set_aside as a where a.sqlstate <> '55P03' limit c_most + 1) as a),
        'Sessions whose announcement raised an error, counted up to 10,001'
    union all
    select
        'holds', (select count(*) from (select from after_hours.holds limit c_most + 1) as h),
        'Holds in force, counted up to 10,001'
    union all
    select
        'holds_ending_soon',
        (
            select count(*)
            from (select from after_hours.holds as h where h.keep_until < p_now + interval '24 hours' limit c_most + 1) as h
        ),
        'Holds that end within 24 hours, counted up to 10,001'
    union all
    select
        'oldest_due_seconds',
        coalesce((
            select greatest(extract(epoch from p_now - min(u.due_at)), 0)
            from after_hours.list_upcoming(p_now) as u
            where u.due_at <= p_now
        ), 0)::double precision,
        'Age of the oldest announcement that is due and not made'
    union all
    select
        'pauses', (select count(*) from after_hours.pauses as p where p.until > p_now),
        'Jobs that are paused'
    union all
    select
        'push_backlog', (select count(*) from (select from after_hours.pushes as p where p.finished_at is null limit c_most + 1) as p),
        'Pushes not finished, counted up to 10,001'
    union all
    select
        'push_failing_targets', (select count(*) from after_hours.push_state as s where s.failing_since is not null),
        'Push targets whose last answer was a failure'
    union all
    select
        'replication_lag_bytes', after_hours.replication_lag(),
        'WAL that the slowest connected replica has not replayed';
end
$$;
comment on function after_hours.list_gauges(timestamptz) is
'Figures for /metrics, a row each: name (after_hours_ is put in front), value, description. Counts stop at 10,001.';
alter function after_hours.list_gauges(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.list_gauges(timestamptz) from public;
grant execute on function after_hours.list_gauges(timestamptz) to after_hours_dba;
