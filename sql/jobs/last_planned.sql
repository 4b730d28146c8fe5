create or replace function after_hours.last_planned(p_schedule text, p_now timestamptz)
returns timestamptz
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: the latest instant of a schedule of job_plan at or before p_now: 'M H * * *' daily, 'M * * * *' hourly, in UTC.
    -- Returns: null for what has no instants to wait for ('* * * * *', '@reboot').
    -- Locks:   none.
    -- Access:  after_hours_jobs.
    select case
        when s.part[2] ~ '^\d+$' then
            (date_trunc('day', p_now at time zone 'UTC' - s.past) + s.past) at time zone 'UTC'
        when s.part[1] ~ '^\d+$' then date_trunc('hour', p_now - s.past) + s.past
    end
    from (
        select
            w.part,
            make_interval(
                hours => case when w.part[2] ~ '^\d+$' then w.part[2]::integer else 0 end,
                mins => case when w.part[1] ~ '^\d+$' then w.part[1]::integer else 0 end
            ) as past
        from (select string_to_array(p_schedule, ' ') as part) as w
    ) as s;
$$;
comment on function after_hours.last_planned(text, timestamptz) is
'The latest instant of a daily or hourly schedule up to now, in UTC; null for others. Used by ticker_claim(), list_jobs() and health.';
alter function after_hours.last_planned(text, timestamptz) owner to after_hours_owner;
revoke all on function after_hours.last_planned(text, timestamptz) from public;
grant execute on function after_hours.last_planned(text, timestamptz) to after_hours_jobs;
