create or replace function after_hours.check_push(p_now timestamptz default clock_timestamp())
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_targets integer;
    v_faults text;
begin
    -- Purpose: check that pushes are sent: targets that fail, that answered 410 Gone, or that no sender asks for.
    -- Returns: one row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    check_name := 'push';
    select count(*), string_agg(f.fault, '; ' order by f.target)
    into v_targets, v_faults
    from (
        select
            b.target,
            b.target || ' ' || case
                when not b.enabled and b.last_error = 'status 410' then 'was disabled: it answered 410 Gone'
                when not b.enabled then null
                when b.failing_since < p_now - interval '1 minute' then
                    format('fails since %s, %s times: %s', after_hours.iso_utc(b.failing_since), b.failures, b.last_error)
                when coalesce(b.sender_seen_at, '-infinity') < p_now - interval '3 minutes' then
                    'has no sender' || coalesce(' since ' || after_hours.iso_utc(b.sender_seen_at), '')
            end as fault
        from after_hours.list_push_backlog(p_now) as b
    ) as f;
    ok := v_faults is null;
    detail := coalesce(v_faults, case v_targets when 0 then 'no targets' else format('%s targets, none fails', v_targets) end);
    next_command := case when not ok
        then 'select * from after_hours.push_backlog; the sender is: after-hours push --secrets DIRECTORY' end;
    return next;
end
$$;
comment on function after_hours.check_push(timestamptz) is
'Health check: push targets that fail, were disabled by 410 Gone, or have no sender. Read it as view after_hours.health.';
alter function after_hours.check_push(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.check_push(timestamptz) from public;
grant execute on function after_hours.check_push(timestamptz) to after_hours_dba;
