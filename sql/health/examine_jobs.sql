create or replace function after_hours.examine_jobs()
returns table (subject text, ok boolean, finding text, advice text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    v_workers boolean;
    v_text text;
begin
    -- Purpose: examine the planned jobs: present, and connecting to this server.
    -- Returns: a row per subject. Owned by the jobs role: row security of pg_cron hides its jobs from other roles.
    -- Locks:   none.
    -- Access:  after_hours_jobs.
    -- Row security shows the jobs of this role only; jobs of other roles are checked at installation.
    if after_hours.is_ticker() then
        subject := 'jobs';
        select c.ok, c.detail, c.next_command into ok, finding, advice from after_hours.check_jobs() as c;
        return next;
        return;
    end if;
    v_workers := coalesce(current_setting('cron.use_background_workers', true), 'off')::boolean;
    subject := 'jobs';
    select string_agg(format('%s runs in %s', j.jobname, j.database), ', ')
    into v_text
    from cron.job as j
    where j.jobname like 'after\_hours\_%@' || current_database() and j.database <> current_database();
    ok := v_text is null and not exists (
        select
        from after_hours.list_jobs() as l
        where l.schedule is null or not l.is_active
    );
    finding := coalesce(v_text, case when ok then 'all planned jobs exist and are active'
        else 'some planned jobs are missing or inactive' end);
    advice := case when not ok then 'select * from after_hours.jobs; then: select * from after_hours.install_jobs();' end;
    return next;

    subject := 'connections of jobs';
    select string_agg(distinct format('%s:%s', j.nodename, j.nodeport), ', ')
    into v_text
    from cron.job as j
    where j.database = current_database()
        and (j.nodeport, j.nodename) is distinct from (current_setting('port')::integer, current_setting('cron.host', true));
    ok := v_workers or v_text is null;
    finding := coalesce('jobs connect to ' || v_text, 'jobs connect to this server');
    advice := case when not ok then 'select * from after_hours.install_jobs(); schedules them anew with the present host and port' end;
    return next;
end
$$;
comment on function after_hours.examine_jobs() is
'Whether pg_cron has the planned jobs, and where they connect to. Internal, used by doctor().';
alter function after_hours.examine_jobs() owner to after_hours_jobs;
revoke all on function after_hours.examine_jobs() from public;
grant execute on function after_hours.examine_jobs() to after_hours_owner;
