-- Gives our roles what list_rights() declares. The grants of each routine and view stand in its own file.
do $$
declare
    v_row record;
begin
    perform set_config('client_min_messages', 'error', true); -- a grant that we may not give is a WARNING if the right is there
    for v_row in select l.* from after_hours.list_rights() as l where not l.is_granted order by l.object, l.grantee, l.privilege loop
        begin
            execute v_row.statement;
        exception when insufficient_privilege then
            if not v_row.is_had then
                raise; -- preflight has asked for it
            end if;
        end;
    end loop;
    perform set_config('client_min_messages', 'warning', true);
end
$$;
-- It owns the functions that read pg_cron's tables, and may create them for the time of an apply: prune.sql takes it back.
grant create on schema after_hours to after_hours_jobs;
