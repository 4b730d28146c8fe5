-- Last step: schedule the jobs in pg_cron. If another role had scheduled them as well, each would run twice.
do $$
declare
    v_other text;
begin
    if to_regnamespace('cron') is null then
        return;
    end if;
    v_other := (
        select format('%s (job %s of %s)', j.jobname, j.jobid, j.username)
        from cron.job as j
        where j.jobname like 'after\_hours\_%@' || current_database() and j.username <> 'after_hours_jobs'
        limit 1
    );
    if v_other is not null then
        raise exception using
            errcode = 'AH036',
            message = format('another role already runs %s', v_other),
            hint = 'As that role or a superuser: select cron.unschedule(jobid); then repeat.';
    end if;
end
$$;
select j.job, j.action, j.detail from after_hours.install_jobs() as j;
