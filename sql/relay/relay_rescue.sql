create or replace function after_hours.relay_rescue(
    out expired integer, out expiring integer, out skipped integer, out has_more boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
begin
    -- Purpose: one announce pass on behalf of a stopped scheduler. While the scheduler announces, it does nothing.
    -- Returns: the counts of announce_due(); if has_more, call again at once.
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
    if not after_hours.needs_rescue() then
        expired := 0;
        expiring := 0;
        skipped := 0;
        has_more := false;
        return;
    end if;
    perform after_hours.end_stuck_loops();
    select d.expired, d.expiring, d.skipped, d.has_more
    into expired, expiring, skipped, has_more
    from after_hours.announce_due() as d;
end
$$;
comment on function after_hours.relay_rescue() is
'One announce_due() on behalf of a scheduler that has stopped; nothing while it announces. Errors: AH061 paused, AH062 switched off.';
alter function after_hours.relay_rescue() owner to after_hours_owner;
revoke all on function after_hours.relay_rescue() from public;
grant execute on function after_hours.relay_rescue() to after_hours_relay;
