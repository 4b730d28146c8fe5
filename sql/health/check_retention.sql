create or replace function after_hours.check_retention(p_now timestamptz default clock_timestamp())
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_slot timestamptz := after_hours.latest_slot(p_now);
    v_run after_hours.purge_runs;
    v_pause after_hours.pauses;
    v_brake record;
    v_failures record;
begin
    -- Purpose: checks of the purge: the last 03:00 run, the brake, matches that could not be deleted.
    -- Returns: one row per check. A missed slot fails the check after 90 minutes, when the hourly catch-up has run.
    -- Locks:   none; counts what is overdue.
    -- Access:  after_hours_dba.
    select p.* into v_pause from after_hours.pauses as p where p.job = 'purge' and p.until > p_now;
    select r.*
    into v_run
    from after_hours.purge_runs as r
    where r.slot = v_slot
    order by (r.status = 'succeeded') desc, r.id desc
    limit 1;
    check_name := 'purge';
    ok := v_pause.job is null and (
        v_slot is null or coalesce(v_run.status in ('succeeded', 'running'), false) or p_now < v_slot + interval '90 minutes'
    );
    detail := case
        when v_pause.job is not null
            then format('paused until %s by %s: %s', after_hours.iso_utc(v_pause.until), v_pause.paused_by, v_pause.reason)
        when v_slot is null then 'the first run is still ahead: 03:00 UTC'
        when v_run.id is null then format('the run of %s was missed', after_hours.iso_utc(v_slot))
        else format('the run of %s %s: %s matches, %s messages', after_hours.iso_utc(v_slot), v_run.status, v_run.matches, v_run.messages)
            || coalesce('; ' || v_run.detail, '')
    end;
    next_command := case
        when ok then null
        when v_pause.job is not null then 'select after_hours.resume_job(''purge'');'
        else 'select * from after_hours.purge_preview(); then: CALL after_hours.purge();'
    end;
    return next;

    select b.* into v_brake from after_hours.brake() as b;
    check_name := 'brake';
    ok := not v_brake.is_on;
    detail := case
        when v_brake.is_on then v_brake.reason
        else format('%s matches are overdue; the brake engages above %s', v_brake.due_matches, v_brake.match_limit)
    end;
    next_command := v_brake.hint;
    return next;

    select count(*) as n, min(f.first_at) as first_at, (array_agg(f.message))[1] as message
    into v_failures
    from after_hours.purge_failures as f
    where f.sqlstate not in ('23503', '23001'); -- no fault: a row of the application references the match
    check_name := 'not_purged';
    ok := v_failures.n = 0;
    detail := case
        when ok then 'no deletion of an overdue match has failed'
        else format('%s overdue matches could not be deleted since %s: %s',
            v_failures.n, after_hours.iso_utc(v_failures.first_at), left(v_failures.message, 200))
    end;
    next_command := case when not ok then 'select * from after_hours.not_purged;' end;
    return next;
end
$$;
comment on function after_hours.check_retention(timestamptz) is
'Health checks of the purge: last slot, pause, brake, matches that could not be deleted. Read them as view after_hours.health.';
alter function after_hours.check_retention(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.check_retention(timestamptz) from public;
grant execute on function after_hours.check_retention(timestamptz) to after_hours_dba;
