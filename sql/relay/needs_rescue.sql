create or replace function after_hours.needs_rescue()
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: whether the scheduler has stopped: its last heartbeat is older than 65 s, or lies ahead.
    -- Returns: false as well where no scheduled run has announced yet.
    -- Locks:   none.
    -- Access:  internal.
    select coalesce(
        e.heartbeat_at not between clock_timestamp() - interval '65 seconds' and clock_timestamp() + interval '5 seconds', false
    )
    from after_hours.emitter as e
$$;
comment on function after_hours.needs_rescue() is
'Whether the scheduler has stopped announcing (no heartbeat for 65 s). Internal, used by relay_beat() and relay_rescue().';
alter function after_hours.needs_rescue() owner to after_hours_owner;
revoke all on function after_hours.needs_rescue() from public;
