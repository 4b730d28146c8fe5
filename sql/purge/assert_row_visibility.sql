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
    -- Purpose: an error instead of silently too few rows, when the application's tables have row security that
    --          applies to our owner role.
    -- Returns: true, or raises AH015.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs, after_hours_moderator.
    foreach v_table in array array['public.after_hours_matches', 'public.after_hours_messages']::regclass[] loop
        if row_security_active(v_table) then
            raise exception using
                errcode = 'AH015',
                message = format('row security on %s hides rows from after_hours_owner', v_table),
                detail = 'Deleting or showing only the rows that a policy lets through would be wrong without a word.',
                hint = 'As a superuser: alter role after_hours_owner bypassrls; '
                    'alter role after_hours_eraser bypassrls; then repeat.';
        end if;
    end loop;
    return true;
end
$$;
comment on function after_hours.assert_row_visibility() is
'True if no row security policy stands between after_hours_owner and the application''s matches and messages; error '
'AH015 if one does.';
alter function after_hours.assert_row_visibility() owner to after_hours_owner;
revoke all on function after_hours.assert_row_visibility() from public;
grant execute on function after_hours.assert_row_visibility() to after_hours_jobs, after_hours_moderator, after_hours_dba;
