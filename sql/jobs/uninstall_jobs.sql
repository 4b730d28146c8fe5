create or replace function after_hours.uninstall_jobs()
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    v_count integer;
begin
    -- Purpose: unschedule our jobs of this database; install_jobs() schedules them again.
    -- Returns: their number. A run in progress continues to its end.
    -- Locks:   rows of cron.job.
    -- Access:  after_hours_dba, after_hours_jobs.
    if to_regnamespace('cron') is null then
        return 0;
    end if;
    select count(cron.unschedule(j.jobid))
    into v_count
    from cron.job as j
    where j.username = current_user and j.database = current_database()
        and j.jobname like 'after\_hours\_%@' || current_database();
    return v_count;
end
$$;
comment on function after_hours.uninstall_jobs() is
'Unschedules the After Hours jobs of this database in pg_cron; returns their number. Undo: select * from '
'after_hours.install_jobs();';
alter function after_hours.uninstall_jobs() owner to after_hours_jobs;
revoke all on function after_hours.uninstall_jobs() from public;
grant execute on function after_hours.uninstall_jobs() to after_hours_dba;
