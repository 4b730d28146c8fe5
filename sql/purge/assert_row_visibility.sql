create or replace function after_hours.assert_row_visibility()
returns boolean
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_table regclass;
begin
    -- Purpose: raise an error if row security on the application's tables applies to our owner role: it would silently
    --          hide rows.
    -- Returns: true, or raises AH015; AH047 if one of the tables is no plain table.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs, after_hours_moderator.
    perform after_hours._assert_tables();
    foreach v_table in array array['public.after_hours_matches', 'public.after_hours_messages']::regclass[] loop
        if row_security_active(v_table) then
            raise exception using
                errcode = 'AH015',
                message = format('row security on %s hides rows from after_hours_owner', v_table),
                detail = 'Rows that a policy hides would be missing from every list and never be deleted, without any error.',
                hint = 'As a superuser: alter role after_hours_owner bypassrls; '
                    'alter role after_hours_eraser bypassrls; then repeat.';
        end if;
    end loop;
    return true;
end
$$;
comment on function after_hours.assert_row_visibility() is
'True if no row security on the application''s matches and messages applies to after_hours_owner; otherwise error '
'AH015.';
alter function after_hours.assert_row_visibility() owner to after_hours_owner;
revoke all on function after_hours.assert_row_visibility() from public;
grant execute on function after_hours.assert_row_visibility() to after_hours_jobs, after_hours_moderator, after_hours_dba;
