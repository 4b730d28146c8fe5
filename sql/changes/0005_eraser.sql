-- 0005: the role under which rows of the application's tables are deleted and marked. Write-once. No locks of note.
set local lock_timeout = '5s';
do $$
begin
    if not exists (select from pg_catalog.pg_roles as r where r.rolname = 'after_hours_eraser') then
        create role after_hours_eraser nologin;
    end if;
    if not pg_has_role('after_hours_eraser', 'usage') then
        execute format('grant after_hours_eraser to %I', current_user);
    end if;
end
$$;
-- brake() takes a match from here on; two of one name could not be told apart in a call without arguments
drop function if exists after_hours.brake();
