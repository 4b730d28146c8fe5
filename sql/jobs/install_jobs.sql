create or replace function after_hours.install_jobs()
returns table (job text, action text, detail text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    v_plan record;
    v_found record;
    v_name text;
    v_host text;
    v_port integer := current_setting('port')::integer;
begin
    -- Purpose: schedule the jobs of after_hours.job_plan in pg_cron, as this function's owner.
    -- Returns: a row per job: created, unchanged, changed or removed. A second call changes nothing.
    -- Locks:   rows of cron.job.
    -- Access:  after_hours_dba, after_hours_jobs.
    if after_hours.is_ticker() then
        job := 'mode';
        action := 'ticker';
        detail := 'nothing is scheduled: run after-hours tick, twice for availability';
        return next;
        return;
    end if;
    v_host := coalesce(current_setting('cron.host', true), 'localhost');
    for v_plan in
        select p.job as plan_job, p.schedule, p.command from after_hours.job_plan as p order by p.job
    loop
        job := v_plan.plan_job;
        v_name := format('after_hours_%s@%s', job, current_database());
        select j.* into v_found from cron.job as j where j.jobname = v_name and j.username = current_user;
        if not found then
            action := 'created';
        elsif v_found.database <> current_database() then
            raise exception using
                errcode = 'AH036',
                message = format('a job named %s already runs in database %s', v_name, v_found.database),
                hint = format(
                    'If it is not needed: select cron.unschedule(%s); then repeat select * from after_hours.install_jobs();',
                    v_found.jobid
                );
        elsif v_found.schedule = v_plan.schedule and v_found.command = v_plan.command
            and v_found.nodename = v_host and v_found.nodeport = v_port and v_found.active then
            action := 'unchanged';
        else
            -- unschedule first: cron.schedule() with an existing name keeps the old host, port and database
            action := 'changed';
            perform cron.unschedule(v_found.jobid);
        end if;
        if action <> 'unchanged' then
            perform cron.schedule(v_name, v_plan.schedule, v_plan.command);
        end if;
        detail := format('%s  %s', v_plan.schedule, v_plan.command);
        return next;
    end loop;

    for v_found in
        select j.jobid, j.jobname, j.command
        from cron.job as j
        where j.username = current_user and j.database = current_database()
            and j.jobname like 'after\_hours\_%@' || current_database()
            and not exists (
                select from after_hours.job_plan as p where j.jobname = format('after_hours_%s@%s', p.job, current_database())
            )
    loop
        perform cron.unschedule(v_found.jobid);
        job := v_found.jobname;
        action := 'removed';
        detail := v_found.command;
        return next;
    end loop;

    job := 'mode';
    select m.mode, m.reason into action, detail from after_hours.announce_mode() as m;
    return next;
end
$$;
comment on function after_hours.install_jobs() is
'Schedules the jobs of after_hours.job_plan in pg_cron and reports per job: created, unchanged, changed or removed; '
'the last row is the mode of announcing. May be run again at any time. Error AH036.';
alter function after_hours.install_jobs() owner to after_hours_jobs;
revoke all on function after_hours.install_jobs() from public;
grant execute on function after_hours.install_jobs() to after_hours_dba;
