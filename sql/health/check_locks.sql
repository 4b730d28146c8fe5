create or replace function after_hours.check_locks()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held record;
begin
    -- Purpose: check that nobody has held, or waited for, a lock for longer than 2 s that keeps announcing or the purge waiting.
    -- Returns: one row; it names the oldest three.
    -- Locks:   none.
    -- Access:  after_hours_dba.
    check_name := 'locks';
    select count(*) as n, string_agg(h.description, '; ') filter (where h.place <= 3) as description,
        min(h.statement) filter (where h.place = 1) as statement
    into v_held
    from (select l.*, row_number() over (order by l.since) as place from after_hours.list_lock_holders() as l) as h;
    ok := v_held.n = 0;
    detail := case
        when ok then 'nobody holds a lock that keeps announcing or the purge waiting'
        else v_held.description || case when v_held.n > 3 then format('; and %s more', v_held.n - 3) else '' end
    end;
    next_command := case when not ok then 'if it can be ended: ' || v_held.statement end;
    return next;
end
$$;
comment on function after_hours.check_locks() is
'Health check: who has held a lock on our or the application''s tables for longer than 2 s. Read it as view after_hours.health.';
alter function after_hours.check_locks() owner to after_hours_owner;
revoke all on function after_hours.check_locks() from public;
grant execute on function after_hours.check_locks() to after_hours_dba;
