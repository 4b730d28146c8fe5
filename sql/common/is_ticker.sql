create or replace function after_hours.is_ticker()
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: tell whether the jobs are run by after-hours tick, on a server without pg_cron.
    -- Returns: true for settings.scheduler = 'ticker'.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    select s.scheduler = 'ticker' from after_hours.settings as s;
$$;
comment on function after_hours.is_ticker() is
'Whether after-hours tick runs the jobs (settings.scheduler), not pg_cron.';
alter function after_hours.is_ticker() owner to after_hours_owner;
revoke all on function after_hours.is_ticker() from public;
grant execute on function after_hours.is_ticker() to after_hours_jobs, after_hours_dba;
