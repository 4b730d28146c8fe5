create or replace function after_hours.run_checks(p_routines text[])
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_routine text;
    v_state text;
begin
    -- Purpose: run checks, each in a handler of its own: one that raises an error is a row that is not ok, and the
    --          others answer.
    -- Returns: the rows of the routines, in order. A routine that raised is named after what it checks.
    -- Locks:   none.
    -- Access:  internal.
    foreach v_routine in array p_routines loop
        -- the jobs' role owns some: altered by it, they would run with the rights of this function's owner
        if not exists (
            select
            from pg_proc as p
            where p.pronamespace = 'after_hours'::regnamespace and p.proname = v_routine
                and p.prosecdef and 'search_path=pg_catalog, pg_temp' = any(p.proconfig)
        ) then
            check_name := regexp_replace(v_routine, '^(check|examine|list)_', '');
            ok := false;
            detail := format('is not run: after_hours.%s() was altered by hand', v_routine);
            next_command := 'alembic upgrade head (or psql -1 -f sql/install.sql) restores it';
            return next;
            continue;
        end if;
        begin
            return query execute format('select * from after_hours.%I()', v_routine);
        exception when others then
            get stacked diagnostics v_state = returned_sqlstate, detail = message_text, next_command = pg_exception_hint;
            check_name := regexp_replace(v_routine, '^(check|examine|list)_', '');
            ok := false;
            detail := format('can''t be checked: %s (%s)', detail, v_state);
            next_command := coalesce(nullif(next_command, ''), 'select * from after_hours.list_missing(); type what it says, '
                'then alembic upgrade head (or psql -1 -f sql/install.sql)');
            return next;
        end;
    end loop;
end
$$;
comment on function after_hours.run_checks(text[]) is
'Runs routines of this schema that return rows of health; an error of one is a row, not the end. Internal, used '
'by list_health() and doctor().';
alter function after_hours.run_checks(text[]) owner to after_hours_owner;
revoke all on function after_hours.run_checks(text[]) from public;
