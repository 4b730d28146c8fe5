create or replace function after_hours.purge_cutoff()
returns timestamptz
language sql
volatile
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: the instant before which an unsaved, unheld match must have expired to be overdue, right now.
    -- Returns: the clock minus settings.retention, at least a day, whatever the row says; computed in UTC. It has no argument,
    --          so that no caller can make it later.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs, after_hours_moderator.
    select (clock_timestamp() at time zone 'UTC' - greatest(s.retention, interval '1 day')) at time zone 'UTC' from after_hours.settings as s;
$$;
comment on function after_hours.purge_cutoff() is
'The purge''s cutoff at this moment: clock minus settings.retention, in UTC (a local time zone would move it by an hour '
'around DST).';
alter function after_hours.purge_cutoff() owner to after_hours_owner;
revoke all on function after_hours.purge_cutoff() from public;
grant execute on function after_hours.purge_cutoff() to after_hours_jobs, after_hours_moderator, after_hours_dba;
