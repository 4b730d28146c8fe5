insert into after_hours.job_plan (job, schedule, command, purpose)
values (
    'purge_catch_up',
    '17 * * * *',
    $$CALL after_hours.purge('catch_up')$$,
    'makes up within the hour for a 03:00 run that was missed or left something'
)
on conflict (job) do update
    set schedule = excluded.schedule, command = excluded.command, purpose = excluded.purpose;
