create or replace function after_hours.relay_rescue()
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_counts record;
begin
    -- Purpose: one announce pass on behalf of a stopped scheduler.
    -- Returns: the counts of announce_due(), as text for the log.
    -- Locks:   those of announce_due().
    -- Access:  after_hours_relay.
    if after_hours.is_paused('announce') then
        raise exception using
            errcode = 'AH061',
            message = 'announcing is paused: no rescue',
            hint = 'To announce again: select after_hours.resume_job(''announce'');';
    end if;
    if not (select s.rescue from after_hours.settings as s) then
        raise exception using
            errcode = 'AH062',
            message = 'rescue is switched off in the settings',
            hint = 'To switch it on: update after_hours.settings set rescue = true;';
    end if;
    perform after_hours.end_stuck_loops();
    select * into v_counts from after_hours.announce_due(null);
    return v_counts::text;
end
$$;
comment on function after_hours.relay_rescue() is
'One announce_due() on behalf of a scheduler that has stopped. Errors: AH061 paused, AH062 switched off.';
alter function after_hours.relay_rescue() owner to after_hours_owner;
revoke all on function after_hours.relay_rescue() from public;
grant execute on function after_hours.relay_rescue() to after_hours_relay;
