create or replace function after_hours.help()
returns setof text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Purpose: the list of commands, for psql: \t on, then select after_hours.help();
    -- Returns: a line a row.
    -- Locks:   none.
    -- Access:  after_hours_dba, after_hours_jobs, after_hours_moderator.
    select unnest(string_to_array(
$help$LOOK
  select * from after_hours.health where not ok;      what is wrong now, and what to type
  select * from after_hours.doctor();                 what will fail: settings, keys, triggers
  select * from after_hours.jobs;                     schedule, next run, last result; each run: job_runs
  select * from after_hours.upcoming;                 the next warnings and ends
  select * from after_hours.lateness;                 how late events were, per hour
  select * from after_hours.delivery_report where user_id = …;   events of a user: when, by which relay, acknowledged
  select * from after_hours.unreached_warnings;       standing warnings that no client has acknowledged
  select * from after_hours.push_backlog;             webhooks per target: waiting, failing; each attempt: push_history
  select * from after_hours.list_lock_holders();      who holds a lock that ours waits for, and what ends it
  select * from after_hours.sql_drift;                routines and views edited by hand
PURGE
  select * from after_hours.purge_preview();          what the next run would delete, and what it would not
  call after_hours.purge();                           run it now; progress by NOTICE; Ctrl-C is safe
  select * from after_hours.explain_match('…');       why it is kept, or when it is deleted
  select * from after_hours.not_purged;               overdue matches not deleted, why, since when
  select * from after_hours.backlog;                  what is overdue, per day
  select * from after_hours.purge_history;            every run
  select after_hours.arm('why');                      release the brake
HOLD
  select after_hours.place_hold('match', 'report', 'reason', keep_until);
  select after_hours.place_user_hold('user', 'legal', 'reason', keep_until);
  select after_hours.release_hold(hold_id, 'reason');
  select * from after_hours.stale_holds;
STOP AND GO
  select after_hours.pause_job('purge', now() + interval '2 hours', 'reason');
  select after_hours.resume_job('purge');             jobs: announce, purge, housekeeping
  select * from after_hours.install_jobs();           restore the planned jobs
  select * from after_hours.announce_due();           announce what is due, by hand
USERS (for members of after_hours_moderator)
  select after_hours.block_user('user', until, 'reason');  select after_hours.unblock_user('user');
  select after_hours.disconnect_user('user', 'reason');
PROVE
  select after_hours.deletion_receipt('match');
  select * from after_hours.verify_evidence() where not ok;
POLICY
  table after_hours.settings;                         change with UPDATE; who did: table after_hours.settings_log;
MANUAL
  \df+ after_hours.*   \dv+ after_hours.*   \d+ after_hours.settings$help$, E'\n'));
$$;
comment on function after_hours.help() is 'The list of commands. In psql: \t on, then select after_hours.help();';
alter function after_hours.help() owner to after_hours_owner;
revoke all on function after_hours.help() from public;
grant execute on function after_hours.help() to after_hours_dba, after_hours_moderator, after_hours_jobs;
