insert into after_hours.job_plan (job, schedule, command, purpose)
values (
    'announce_boot',
    '@reboot',
    $$CALL after_hours.announce_loop('0.25 s')$$,
    'the same from a server start to the next minute'
)
on conflict (job) do update
    set schedule = excluded.schedule, command = excluded.command, purpose = excluded.purpose;
