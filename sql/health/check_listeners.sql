create or replace function after_hours.check_listeners(p_now timestamptz default clock_timestamp())
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_deaf text;
begin
    -- Purpose: check that each relay receives NOTIFY.
    -- Returns: one row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    check_name := 'listeners';
    select string_agg(
        format('%s (%s, last seen %s s ago)', r.node, concat_ws(' ', r.state, r.mode), round(extract(epoch from p_now - r.seen_at))), ', '
    )
    into v_deaf
    from after_hours.relays as r
    where r.state <> 'live' or r.mode is distinct from 'notify' or r.seen_at <= p_now - interval '30 seconds';
    ok := v_deaf is null;
    detail := coalesce('not live, or without NOTIFY: ' || v_deaf, 'every relay receives NOTIFY');
    next_command := case when not ok
        then 'curl the relay''s admin address: /readyz shows the reason; a transaction pooler in front of LISTEN is the usual cause' end;
    return next;
end
$$;
comment on function after_hours.check_listeners(timestamptz) is
'Health check: relays that do not hear NOTIFY, as they last reported. Read it as view after_hours.health.';
alter function after_hours.check_listeners(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.check_listeners(timestamptz) from public;
grant execute on function after_hours.check_listeners(timestamptz) to after_hours_dba;
