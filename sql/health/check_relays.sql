create or replace function after_hours.check_relays(p_now timestamptz default clock_timestamp())
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_seen integer;
    v_live integer;
begin
    -- Purpose: check that a relay is live. A relay that stops in order removes its row.
    -- Returns: one row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    check_name := 'relays';
    select count(*), count(*) filter (where r.state = 'live' and r.seen_at > p_now - interval '30 seconds')
    into v_seen, v_live
    from after_hours.relays as r;
    ok := v_live > 0;
    detail := format('%s of %s relays are live', v_live, v_seen);
    next_command := case when not ok then 'on the machine of the relay: python -m relay check' end;
    return next;
end
$$;
comment on function after_hours.check_relays(timestamptz) is
'Health check: how many relays are live, as they last reported. Read it as view after_hours.health.';
alter function after_hours.check_relays(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.check_relays(timestamptz) from public;
grant execute on function after_hours.check_relays(timestamptz) to after_hours_dba;
