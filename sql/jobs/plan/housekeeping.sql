insert into after_hours.job_plan (job, schedule, command, purpose)
values (
    'housekeeping',
    '41 * * * *',
    $$CALL after_hours.housekeeping()$$,
    'trims events, receipts, logs and old evidence; lapses holds'
)
on conflict (job) do update
    set schedule = excluded.schedule, command = excluded.command, purpose = excluded.purpose;
