create or replace function after_hours.end_stuck_loops()
returns integer
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: end the announce loop that blocks announcing after the clock was set back. pg_sleep() ends by the clock: when
    --          it is set back by an hour, a sleeping loop sleeps for an hour more and keeps the lock. Such a loop is
    --          recognized by a transaction start in the future. A loop that waits for the lock is left alone: it continues
    --          as soon as the lock is free.
    -- Returns: the number of loops ended, usually one; pg_cron starts another at the next full minute.
    -- Locks:   none. Owned by after_hours_jobs, the role that the loops run as.
    -- Access:  after_hours_dba, after_hours_jobs.
    -- Materialized: in a single WHERE clause the cheapest condition is evaluated first: pg_terminate_backend().
    with stuck as materialized (
        select a.pid
        from pg_stat_activity as a
        where a.datname = current_database() and a.query ilike 'call after\_hours.announce\_loop%'
            and a.xact_start > clock_timestamp() + interval '5 seconds' and a.wait_event = 'PgSleep'
    )

    select count(*)::integer from stuck as s where pg_terminate_backend(s.pid, 1000);
$$;
comment on function after_hours.end_stuck_loops() is
'Ends announce loops that still sleep because the clock was set back: those whose transaction began in the future. '
'pg_cron starts others at the next minute. Returns their number.';
alter function after_hours.end_stuck_loops() owner to after_hours_jobs;
revoke all on function after_hours.end_stuck_loops() from public;
grant execute on function after_hours.end_stuck_loops() to after_hours_jobs, after_hours_owner, after_hours_dba;
