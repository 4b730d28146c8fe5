insert into after_hours.job_plan (job, schedule, command, purpose)
values (
    'announce',
    '* * * * *',
    $$CALL after_hours.announce_loop('0.25 s')$$,
    'announces warnings and ends on the millisecond; each run lasts to the next minute'
)
on conflict (job) do update
    set schedule = excluded.schedule, command = excluded.command, purpose = excluded.purpose;
