-- All jobs that pg_cron runs, with their schedules in UTC. install_jobs() schedules them.
insert into after_hours.job_plan (job, schedule, command, purpose)
values
    ('announce',        '* * * * *',   $$CALL after_hours.announce_loop('0.25 s')$$,
        'announces warnings and ends on the millisecond; each run lasts to the next minute'),
    ('announce_spare',  '* * * * *',   $$CALL after_hours.announce_loop('30.25 s')$$,
        'the same, half a minute apart: continues when the other is cancelled or killed'),
    ('announce_boot',   '@reboot',     $$CALL after_hours.announce_loop('0.25 s')$$,
        'the same, from a server start to the next minute'),
    ('purge',           '0 3 * * *',   $$CALL after_hours.purge('schedule')$$,
        'deletes overdue matches with their messages, daily at 03:00 UTC'),
    ('purge_catch_up',  '17 * * * *',  $$CALL after_hours.purge('catch_up')$$,
        'repeats a 03:00 run within the hour if it was missed or incomplete'),
    ('housekeeping',    '41 * * * *',  $$CALL after_hours.housekeeping()$$,
        'trims events, receipts, logs and old evidence; ends expired holds')
on conflict (job) do update
    set schedule = excluded.schedule, command = excluded.command, purpose = excluded.purpose;
