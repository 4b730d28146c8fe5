-- One screen: failed checks, jobs, backlog, next deadlines, last purges | reads short index ranges, locks nothing
\echo '\n--- health: failed checks (no rows: everything is in order)'
select h.check_name, h.detail, h.next_command from after_hours.health as h where not h.ok;
\echo '--- jobs'
select j.job, j.schedule, j.next_run, j.last_start, j.last_status, j.accuracy from after_hours.jobs as j;
\echo '--- backlog of the purge'
select * from after_hours.backlog limit 5;
\echo '--- next deadlines'
select u.due_in, u.type, u.session_id from after_hours.upcoming as u limit 5;
\echo '--- last purges'
select p.run_id, p.trigger, p.status, p.matches, p.messages, p.duration from after_hours.purge_history as p limit 5;
