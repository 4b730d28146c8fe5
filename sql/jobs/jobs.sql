create or replace view after_hours.jobs
with (security_barrier = true)
as
select * from after_hours.list_jobs();
comment on view after_hours.jobs is
'The jobs: schedule, next and last run, mode, accuracy, owner, command. Times are UTC instants; pg_cron 1.4 has no '
'other time zone. Costs: reads pg_cron''s tables.';
alter view after_hours.jobs owner to after_hours_owner;
revoke all on after_hours.jobs from public;
grant select on after_hours.jobs to after_hours_dba;
