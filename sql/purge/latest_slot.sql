create or replace function after_hours.latest_slot(p_now timestamptz default clock_timestamp())
returns timestamptz
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: the scheduled instant that a purge run at p_now belongs to: the last 03:00 UTC.
    -- Returns: null before the first 03:00 UTC after the installation: the ledger of runs begins with it.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    select l.slot
    from after_hours.settings as s
    cross join lateral (
        select (date_trunc('day', p_now at time zone 'UTC' - interval '3 hours') + interval '3 hours') at time zone 'UTC' as slot
    ) as l
    where l.slot > s.announce_since;
$$;
comment on function after_hours.latest_slot(timestamptz) is
'The last 03:00 UTC not after p_now, or null before the first one after the installation (settings.announce_since).';
alter function after_hours.latest_slot(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.latest_slot(timestamptz) from public;
grant execute on function after_hours.latest_slot(timestamptz) to after_hours_jobs, after_hours_dba;
