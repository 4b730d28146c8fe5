create or replace function after_hours.check_set_aside()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_aside record;
begin
    -- Purpose: check that announcing raised no error for a deadline that still stands. Rows of others wait for housekeeping.
    -- Returns: one row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    perform after_hours._assert_tables();
    check_name := 'set_aside';
    select count(*) as n, min(a.first_at) as first_at, (array_agg(a.message))[1] as message
    into v_aside
    from after_hours.set_aside as a
    join public.after_hours_sessions as s on s.id = a.session_id and least(s.ended_at, s.expires_at) = a.deadline
    where a.sqlstate <> '55P03'; -- what is locked is told by overdue_events
    ok := v_aside.n = 0;
    detail := case
        when ok then 'no announcement has raised an error'
        else format('%s sessions could not be announced since %s: %s', v_aside.n, after_hours.iso_utc(v_aside.first_at),
            left(v_aside.message, 200))
    end;
    next_command := case when not ok then 'select * from after_hours.set_aside; fix the cause; they are retried automatically' end;
    return next;
end
$$;
comment on function after_hours.check_set_aside() is
'Health check: sessions whose announcement raised an error. Read it as view after_hours.health.';
alter function after_hours.check_set_aside() owner to after_hours_owner;
revoke all on function after_hours.check_set_aside() from public;
grant execute on function after_hours.check_set_aside() to after_hours_dba;
