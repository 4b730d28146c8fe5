-- pause_job, resume_job, settings and their log, help: from the DBA's seat.
begin;
set local search_path = tap, public;
select plan(17);

do $$ begin perform from after_hours.install_jobs(); end $$;
insert into cron.job_run_details (jobid, runid, database, username, command, status, return_message, start_time)
select j.jobid, 1000000000, j.database, j.username, j.command, 'failed', 'server restarted', pg_postmaster_start_time() - interval '1 minute'
from cron.job as j
where j.jobname = 'after_hours_purge@' || current_database();
select is((select ok from after_hours.health where check_name = 'job_runs'), true, 'a run cut short by a restart is no failure');
update cron.job_run_details set return_message = 'ERROR: out of memory' where runid = 1000000000;
select is((select ok from after_hours.health where check_name = 'job_runs'), false, 'an error before the restart is one');

set local role after_hours_dba;

select throws_ok($$select after_hours.pause_job('purges', now() + interval '1 hour', 'x')$$, 'AH037', null, 'no such job');
select throws_ok($$select after_hours.pause_job('purge', now() - interval '1 hour', 'x')$$, 'AH038', null, 'an end that lies ahead');
select throws_ok($$select after_hours.pause_job('purge', null, 'x')$$, 'AH038', null, 'an end at all');
select throws_ok($$select after_hours.pause_job('purge', now() + interval '1 hour', ' ')$$, 'AH039', null, 'a reason');
select is(after_hours.is_paused('purge'), false, 'nothing has been paused by these');
select is(
    (select paused_by from after_hours.pause_job('purge', now() + interval '1 hour', 'a test')), session_user::text, 'who'
);
select is(after_hours.is_paused('purge'), true, 'paused');
select is(after_hours.is_paused('announce'), false, 'and no other');
select is((select ok from after_hours.health where check_name = 'purge'), false, 'health says so');
select is(
    (select next_command from after_hours.health where check_name = 'purge'), 'select after_hours.resume_job(''purge'');',
    'with what to type'
);
select is(after_hours.resume_job('purge'), true, 'resumed');
select is(after_hours.resume_job('purge'), false, 'there was nothing to resume');

update after_hours.settings set warning_lead = '3 minutes';
select is(
    (select concat_ws(' ', changed_by, setting, old_value, new_value) from after_hours.settings_log),
    session_user || ' warning_lead 00:02:00 00:03:00', 'who changed what from what to what'
);
select throws_ok($$update after_hours.settings set retention = '1 hour'$$, '23514', null, 'never under a day');
select cmp_ok((select count(*) from after_hours.help()), '>', 20::bigint, 'help');

select * from finish();
rollback;
