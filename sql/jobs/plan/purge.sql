insert into after_hours.job_plan (job, schedule, command, purpose)
values (
    'purge',
    '0 3 * * *',
    $$CALL after_hours.purge('schedule')$$,
    'deletes overdue matches with their messages, daily at 03:00 UTC'
)
on conflict (job) do update
    set schedule = excluded.schedule, command = excluded.command, purpose = excluded.purpose;
