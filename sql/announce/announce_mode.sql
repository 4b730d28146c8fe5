create or replace function after_hours.announce_mode(out mode text, out reason text)
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_wanted text := (select s.announce_mode from after_hours.settings as s);
    v_version text := (select e.extversion from pg_extension as e where e.extname = 'pg_cron');
    v_workers boolean;
begin
    -- Purpose: how events are announced here: by the loop (milliseconds late) or by a tick per minute (up to a minute late).
    -- Returns: 'loop' or 'tick', and the reason.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs.
    if v_wanted <> 'auto' then
        mode := v_wanted;
        reason := 'set in settings.announce_mode';
        return;
    elsif after_hours.is_ticker() then
        mode := 'loop';
        reason := 'by after-hours tick';
        return;
    end if;
    v_workers := coalesce(current_setting('cron.use_background_workers', true), 'off')::boolean;
    if v_version is null then
        mode := 'tick';
        reason := 'pg_cron is not installed in this database';
    elsif v_workers and regexp_match(v_version, '^(\d+)\.(\d+)')::integer[] < array[1, 5] then
        mode := 'tick';
        reason := format('pg_cron %s with background workers: one long job would block every other job', v_version);
    else
        mode := 'loop';
        reason := format('pg_cron %s with %s', v_version, case when v_workers then 'background workers' else 'libpq connections' end);
    end if;
end
$$;
comment on function after_hours.announce_mode() is
'How events are announced here: loop (milliseconds late) or tick (up to a minute), and the reason. Set '
'by settings.announce_mode; auto decides by the version and mode of pg_cron.';
alter function after_hours.announce_mode() owner to after_hours_jobs;
revoke all on function after_hours.announce_mode() from public;
grant execute on function after_hours.announce_mode() to after_hours_owner, after_hours_jobs, after_hours_dba;
