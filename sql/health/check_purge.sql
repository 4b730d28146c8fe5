create or replace function after_hours.check_purge(p_now timestamptz default clock_timestamp())
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
    v_waits_for text;
begin
    -- Purpose: did the last 03:00 run succeed? A missed slot counts as red after 90 minutes: by then the catch-up has had
    --          its turn.
    -- Returns: one row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    check_name := 'purge';
    select p.* into v_pause from after_hours.pauses as p where p.job = 'purge' and p.until > p_now;
    select r.*
    into v_run
    from after_hours.purge_runs as r
    where r.slot = v_slot
    order by (r.status = 'succeeded') desc, r.id desc
    limit 1;
    select r.waits_for into v_waits_for from after_hours.purge_runs as r where r.status = 'running';
    ok := v_pause.job is null and v_waits_for is null and (
        v_slot is null or coalesce(v_run.status in ('succeeded', 'running'), false) or p_now < v_slot + interval '90 minutes'
    );
    detail := case
        when v_pause.job is not null
            then format('paused until %s by %s: %s', after_hours.iso_utc(v_pause.until), v_pause.paused_by, v_pause.reason)
        when v_slot is null then 'the first run is still ahead: 03:00 UTC'
        when v_run.id is null then format('the run of %s was missed', after_hours.iso_utc(v_slot))
        else format('the run of %s %s: %s matches, %s messages', after_hours.iso_utc(v_slot), v_run.status, v_run.matches, v_run.messages)
            || coalesce('; ' || v_run.detail, '')
    end || coalesce('; the run under way waits for ' || v_waits_for, '');
    next_command := case
        when ok then null
        when v_pause.job is not null then 'select after_hours.resume_job(''purge'');'
        when v_waits_for is not null then 'select * from after_hours.list_lock_holders(); it says how to end them'
        else 'select * from after_hours.purge_preview(); then: CALL after_hours.purge();'
    end;
    return next;
end
$$;
comment on function after_hours.check_purge(timestamptz) is
'Health check: the last slot of the purge, and its pause. Read it as view after_hours.health.';
alter function after_hours.check_purge(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.check_purge(timestamptz) from public;
grant execute on function after_hours.check_purge(timestamptz) to after_hours_dba;
