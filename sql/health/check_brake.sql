create or replace function after_hours.check_brake()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_brake record;
begin
    -- Purpose: check that the brake lets the next purge run delete.
    -- Returns: one row.
    -- Locks:   none; counts what is overdue.
    -- Access:  after_hours_dba.
    check_name := 'brake';
    select b.* into v_brake from after_hours.brake() as b;
    ok := not v_brake.is_on;
    detail := case
        when v_brake.is_on then v_brake.reason
        else format('%s matches are overdue; the brake engages above %s', v_brake.due_matches, v_brake.match_limit)
    end;
    next_command := v_brake.hint;
    return next;
end
$$;
comment on function after_hours.check_brake() is
'Health check: whether the brake would stop the next purge. Read it as view after_hours.health.';
alter function after_hours.check_brake() owner to after_hours_owner;
revoke all on function after_hours.check_brake() from public;
grant execute on function after_hours.check_brake() to after_hours_dba;
