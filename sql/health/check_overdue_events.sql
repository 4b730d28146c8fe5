create or replace function after_hours.check_overdue_events(p_now timestamptz default clock_timestamp())
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    v_late record;
    v_holder record;
begin
    -- Purpose: check that nothing due is waiting, and name the transaction that has locked it.
    -- Returns: one row.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    check_name := 'overdue_events';
    select count(*) as n, min(u.due_at) as due_at
    into v_late
    from after_hours.list_upcoming(p_now) as u
    where u.due_at < p_now - interval '2 seconds';
    -- who has locked the oldest row: its transaction id is the row's xmax
    select l.description, l.statement
    into v_holder
    from after_hours.list_lock_holders((
        select array_agg(r.xmax)
        from (
            select s.xmax
            from after_hours.list_upcoming(p_now) as u
            join public.after_hours_sessions as s on s.id = u.session_id
            where u.due_at < p_now - interval '2 seconds'
            order by u.due_at
            limit 1
        ) as r
    )) as l
    where l.object = 'a row'
    limit 1;
    ok := v_late.n = 0;
    detail := case
        when ok then 'nothing is overdue'
        else format('%s due for more than 2 s, the oldest since %s',
            case when v_late.n < 1000 then v_late.n::text else '1000 or more' end, after_hours.iso_utc(v_late.due_at))
            || coalesce('; it is locked: ' || v_holder.description, '')
    end;
    next_command := case
        when ok then null
        when v_holder.statement is not null then 'if it can be ended: ' || v_holder.statement
        else 'select * from after_hours.announce_due();'
    end;
    return next;
end
$$;
comment on function after_hours.check_overdue_events(timestamptz) is
'Health check: events due for more than 2 s, and the transaction that has locked the oldest session. Read it as view '
'after_hours.health.';
alter function after_hours.check_overdue_events(timestamptz) owner to after_hours_owner;
revoke all on function after_hours.check_overdue_events(timestamptz) from public;
grant execute on function after_hours.check_overdue_events(timestamptz) to after_hours_dba;
