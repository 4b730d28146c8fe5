create or replace function after_hours.end_stuck_loops()
returns integer
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: free announcing after the clock was set back. PostgreSQL ends a sleep by the clock: set back by an hour, a
    --          loop in its second of sleep sleeps for an hour, and holds the lock. Its transaction began in the future. One that
    --          waits for that lock is left alone: it goes on as soon as it has it.
    -- Returns: how many loops were ended, one as a rule; pg_cron starts another at the next full minute.
    -- Locks:   none. Owned by after_hours_jobs, whose backends they are.
    -- Access:  after_hours_dba, after_hours_jobs.
    -- Materialized: in one WHERE clause the cheapest condition comes first, and that would be the terminating.
    with stuck as materialized (
        select a.pid
        from pg_stat_activity as a
        where a.datname = current_database() and a.query ilike 'call after\_hours.announce\_loop%'
            and a.xact_start > clock_timestamp() + interval '5 seconds' and a.wait_event = 'PgSleep'
    )

    select count(*)::integer from stuck as s where pg_terminate_backend(s.pid, 1000);
$$;
comment on function after_hours.end_stuck_loops() is
'Ends announce loops that sleep on because the clock was set back: those whose transaction began in the future. pg_cron '
'starts others at the next minute. Returns how many.';
alter function after_hours.end_stuck_loops() owner to after_hours_jobs;
revoke all on function after_hours.end_stuck_loops() from public;
grant execute on function after_hours.end_stuck_loops() to after_hours_jobs, after_hours_owner, after_hours_dba;
