create or replace function after_hours.assert_access(variadic p_tables text[])
returns void
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_missing record;
begin
    -- Purpose: say in words why a view can't answer: tables, columns or rights of after_hours_owner that are missing, or
    --          row security that would silently hide rows.
    -- Returns: nothing, or raises AH015 (row security) or AH019.
    -- Locks:   none; reads the catalog.
    -- Access:  after_hours_jobs.
    if p_tables[1] like 'public.%' then
        perform after_hours._assert_tables();
    end if;
    select m.object, m.missing, m.next_command
    into v_missing
    from after_hours.list_missing() as m
    where (m.object = any(p_tables) and m.missing !~ '(after_hours_(app|eraser)$|^its owner was )')
        or (m.object = 'schema public' and m.missing = 'usage for after_hours_owner' and p_tables[1] like 'public.%')
        or (m.object in ('schema cron', 'extension pg_cron', 'role after_hours_jobs') and p_tables[1] like 'cron.%')
    order by m.object, m.missing
    limit 1;
    if v_missing.missing like 'row security%' then
        raise exception using
            errcode = 'AH015',
            message = format('row security on %s hides rows from after_hours_owner', v_missing.object),
            detail = 'Rows that a policy hides would be missing from every list and never be deleted, without any error.',
            hint = 'As a superuser: alter role after_hours_owner bypassrls; '
                'alter role after_hours_eraser bypassrls; then repeat.';
    elsif found then
        raise exception using
            errcode = 'AH019',
            message = format('this can''t be read: %s, missing: %s', v_missing.object, v_missing.missing),
            hint = v_missing.next_command;
    end if;
end
$$;
comment on function after_hours.assert_access(text[]) is
'Raises AH019 if after_hours_owner lacks these tables (public.…), columns of them or rights on them, AH015 if row security '
'hides their rows. Used by functions under views.';
alter function after_hours.assert_access(text[]) owner to after_hours_owner;
revoke all on function after_hours.assert_access(text[]) from public;
grant execute on function after_hours.assert_access(text[]) to after_hours_jobs;
