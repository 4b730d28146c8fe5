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
    v_deaf text;
begin
    -- Purpose: checks that a relay is live and that each relay receives NOTIFY.
    -- Returns: one row per check. A relay that stops in order removes its row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    select
        count(*), count(*) filter (where r.state = 'live' and r.seen_at > p_now - interval '30 seconds'),
        string_agg(
            format('%s (%s, last seen %s s ago)', r.node, concat_ws(' ', r.state, r.mode),
                round(extract(epoch from p_now - r.seen_at))), ', '
        ) filter (where r.state <> 'live' or r.mode is distinct from 'notify' or r.seen_at <= p_now - interval '30 seconds')
    into v_seen, v_live, v_deaf
    from after_hours.relays as r;
    check_name := 'relays';
    ok := v_live > 0;
    detail := format('%s of %s relays are live', v_live, v_seen);
    next_command := case when not ok then 'on the machine of the relay: python -m relay check' end;
    return next;

    check_name := 'listeners';
    ok := v_deaf is null;
    detail := coalesce('not live, or without NOTIFY: ' || v_deaf, 'every relay receives NOTIFY');
    next_command := case when not ok
        then 'curl the relay''s admin address: /readyz shows the reason; a transaction pooler in front of LISTEN is the usual cause' end;
    return next;
end
$$;
comment on function after_hours.check_relays(timestamptz) is
'Health checks of the relays as they last reported. Read them as view after_hours.health.';
alter function after_hours.check_relays(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.check_relays(timestamptz) from public;
grant execute on function after_hours.check_relays(timestamptz) to after_hours_dba;
