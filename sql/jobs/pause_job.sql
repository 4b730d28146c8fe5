create or replace function after_hours.pause_job(p_job text, p_until timestamptz, p_reason text)
returns after_hours.pauses
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_pause after_hours.pauses;
begin
    -- Purpose: pause a job from its next pass or batch until an instant: a pause always has an end.
    -- Returns: the pause. A second pause of the same job replaces the first.
    -- Locks:   none beyond its row.
    -- Access:  after_hours_dba.
    if p_job not in ('announce', 'purge', 'housekeeping') then
        raise exception using
            errcode = 'AH037',
            message = format('there is no job %s to pause', p_job),
            hint = 'Jobs that can be paused: announce (loop, spare and boot), purge (scheduled, catch-up and manual), housekeeping.';
    elsif p_until is null or p_until <= clock_timestamp() then
        raise exception using
            errcode = 'AH038',
            message = 'a pause needs an end in the future',
            hint = format('select after_hours.pause_job(%L, now() + interval ''2 hours'', %L);', p_job, p_reason);
    elsif coalesce(btrim(p_reason), '') = '' then
        raise exception using
            errcode = 'AH039',
            message = 'a pause needs a reason, which is stored with it',
            hint = format('select after_hours.pause_job(%L, %L, ''ticket 4711: restoring a backup'');', p_job, p_until);
    end if;
    insert into after_hours.pauses (job, until, reason, paused_by)
    values (p_job, p_until, p_reason, session_user)
    on conflict (job) do update
        set until = excluded.until, reason = excluded.reason, paused_by = excluded.paused_by, paused_at = excluded.paused_at
    returning * into v_pause;
    return v_pause;
end
$$;
comment on function after_hours.pause_job(text, timestamptz, text) is
'Pauses announce, purge or housekeeping until an instant, with a reason; takes effect at the next pass or batch. Returns '
'the pause. Errors AH037 to AH039. Undo: resume_job().';
alter function after_hours.pause_job(text, timestamptz, text) owner to after_hours_owner;
revoke all on function after_hours.pause_job(text, timestamptz, text) from public;
grant execute on function after_hours.pause_job(text, timestamptz, text) to after_hours_dba;
