-- 0005: the role under which rows of the application's tables are deleted and marked. Write-once. No locks of note.
set local lock_timeout = '5s';
do $$
declare
    v_is_super boolean := (select r.rolsuper from pg_catalog.pg_roles as r where r.rolname = current_user);
begin
    if exists (select from pg_catalog.pg_roles as r where r.rolname = 'after_hours_eraser') then
        return;
    end if;
    if not (select r.rolsuper or r.rolcreaterole from pg_catalog.pg_roles as r where r.rolname = current_user) then
        raise exception using
            errcode = 'AH032',
            message = format('role %s may not do everything the installation needs; nothing has been changed', current_user),
            detail = format('A superuser must first run: create role after_hours_eraser nologin; grant after_hours_eraser to %I;', current_user),
            hint = 'Run the statements in DETAIL as a superuser, then repeat.';
    end if;
    create role after_hours_eraser nologin;
    if not v_is_super then
        execute format('grant after_hours_eraser to %I', current_user);
    end if;
end
$$;
-- brake() takes a match from here on; two of one name could not be told apart in a call without arguments
drop function if exists after_hours.brake();
