insert into after_hours.job_plan (job, schedule, command, purpose)
values (
    'announce_spare',
    '* * * * *',
    $$CALL after_hours.announce_loop('30.25 s')$$,
    'the same half a minute apart: carries on when the other is cancelled or killed'
)
on conflict (job) do update
    set schedule = excluded.schedule, command = excluded.command, purpose = excluded.purpose;
