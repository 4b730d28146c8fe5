create or replace function after_hours.check_access()
returns table (check_name text, ok boolean, detail text, next_command text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count integer;
begin
    -- Purpose: check that our roles have the tables, columns and rights that they need.
    -- Returns: one row.
    -- Locks:   none; reads the catalog.
    -- Access:  after_hours_dba.
    check_name := 'access';
    select
        count(*), string_agg(format('%s: %s', m.object, m.missing), ', ' order by m.nr) filter (where m.nr <= 10),
        string_agg(m.next_command, ' ' order by m.nr) filter (where m.nr <= 10)
    into v_count, detail, next_command
    from (select l.*, row_number() over (order by l.object, l.missing) as nr from after_hours.list_missing() as l) as m;
    ok := v_count = 0;
    detail := case when ok then 'our roles have all rights, tables and columns that they need' else 'missing: ' || detail end
        || case when v_count > 10 then format(' and %s more: select * from after_hours.list_missing();', v_count - 10) else '' end;
    return next;
end
$$;
comment on function after_hours.check_access() is
'Health check: rights, tables and columns that our roles need. Read it as view after_hours.health.';
alter function after_hours.check_access() owner to after_hours_owner;
revoke all on function after_hours.check_access() from public;
grant execute on function after_hours.check_access() to after_hours_dba;
