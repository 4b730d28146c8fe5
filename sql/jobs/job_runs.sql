create or replace view after_hours.job_runs
with (security_barrier = true)
as
select * from after_hours.list_job_runs();
comment on view after_hours.job_runs is
'Runs of the jobs in the last 7 days; the newest: select * from after_hours.job_runs order by run_id desc limit 20;';
alter view after_hours.job_runs owner to after_hours_owner;
revoke all on after_hours.job_runs from public;
grant select on after_hours.job_runs to after_hours_dba;
