-- Comments on tables and columns, for \d+ and \dt+. The application's tables are not described here.

comment on table after_hours.settings is
'Policy: one row, a column per setting. Change it with a plain UPDATE (role after_hours_dba); settings_log records who '
'changed what.';
comment on column after_hours.settings.retention is
'How long an expired, unsaved match is kept before the purge; at least 1 day. Shortening it turns the brake on for '
'24 hours.';
comment on column after_hours.settings.warning_lead is 'How long before the deadline after_hours:session_expiring is due.';
comment on column after_hours.settings.session_length is 'Default length of a session in start_session().';
comment on column after_hours.settings.announce_since is
'Only deadlines after this instant are announced, so that old sessions of an adopted table are not. Set at installation.';
comment on column after_hours.settings.announce_mode is
'auto, loop (milliseconds late) or tick (up to a minute late); see announce_mode().';
comment on column after_hours.settings.announce_batch is 'Maximum number of sessions of each kind that one pass announces.';
comment on column after_hours.settings.notify_payload is
'full: NOTIFY carries the event''s JSON; wake: only its cursor. The relay works with both.';
comment on column after_hours.settings.rescue is 'Whether a relay may announce when the heartbeat is stale for 65 s.';
comment on column after_hours.settings.receipts is 'Whether relays write receipts of what was sent and acknowledged.';
comment on column after_hours.settings.event_retention is 'How long events are kept, so that clients can resume from them.';
comment on column after_hours.settings.receipt_retention is 'How long receipts are kept.';
comment on column after_hours.settings.tombstone_retention is 'How long tombstones of purged matches are kept.';
comment on column after_hours.settings.purge_batch_max is 'Maximum number of matches in one transaction of the purge.';
comment on column after_hours.settings.purge_batch_target is
'How long one transaction of the purge should take; the batch size is adapted to it.';
comment on column after_hours.settings.purge_max_nap is
'Longest sleep between two batches; the purge sleeps only if a transaction or replica waits for it.';
comment on column after_hours.settings.purge_max_lag is
'Replication lag in bytes above which the purge sleeps between batches.';
comment on column after_hours.settings.brake_factor is 'The brake engages above brake_factor × the usual daily amount.';
comment on column after_hours.settings.brake_days is
'The usual daily amount is multiplied by the days since the last success, at most by this number.';
comment on column after_hours.settings.brake_floor_matches is 'The brake never engages for volume below this number of matches …';
comment on column after_hours.settings.brake_floor_messages is '… and this number of messages.';
comment on table after_hours.settings_log is 'Who changed which setting, when, with the old and the new value.';
comment on table after_hours.pauses is
'Pauses of jobs, each with an end, a reason and its author. Written by pause_job() and resume_job().';
comment on column after_hours.settings.accepted_publications is
'Publications and subscriptions of the application''s tables that are meant so: doctor() accepts them.';
comment on column after_hours.settings.scheduler is
'pg_cron, or ticker: after-hours tick runs the jobs, on a server without pg_cron. Set at installation (after-hours migrate --ticker).';
comment on table after_hours.tickers is 'The processes after-hours tick, as they last reported.';
comment on table after_hours.ticker_runs is 'Jobs that tickers ran, kept for 7 days. See view job_runs.';
comment on table after_hours.job_plan is
'The jobs as they should be in pg_cron: install_jobs() compares with it and schedules. See view jobs.';

comment on table after_hours.epochs is
'The runs of the server in which events were emitted. Event ids may be issued again after a failover; '
'the epoch distinguishes them.';
comment on column after_hours.epochs.name is 'The first part of a cursor.';
comment on column after_hours.epochs.last_id is
'Greatest event id that existed before this epoch: a cursor of an earlier epoch is valid up to it.';
comment on table after_hours.epoch_marker is
'UNLOGGED intentionally: a crash empties it, and the next event opens a new epoch.';
comment on table after_hours.emitter is
'The lock of a pass (EXCLUSIVE, a second at most), and the heartbeat of the scheduled runs.';
comment on column after_hours.emitter.failures is
'Passes of the scheduled runs that had no effect and were repeated, since the installation.';
comment on column after_hours.emitter.failed_at is 'When the first pass after the last of them was made.';
comment on column after_hours.emitter.failure is 'Why the last of them had no effect: message and SQLSTATE.';
comment on column after_hours.emitter.swept_at is
'Last sweep that was complete and is stored (with events, else every 15 s): up to then everything written late was found.';
comment on column after_hours.emitter.sweep_at is 'When the sweep after that one is due.';
comment on table after_hours.event_floor is
'What has been trimmed from events: a client with an older cursor gets a reset, and no older deadline is announced again.';
comment on column after_hours.event_floor.id is 'Greatest event id that has been trimmed.';
comment on column after_hours.event_floor.expired_to is 'No end with a deadline up to here is announced.';
comment on column after_hours.event_floor.expiring_to is 'No warning with a deadline up to here is announced.';
comment on table after_hours.events is
'What was announced. Relays read events from here; NOTIFY only wakes them. Written by announce_due() alone, trimmed after '
'settings.event_retention.';
comment on column after_hours.events.id is 'Order of commits. The second part of a cursor.';
comment on column after_hours.events.uid is
'The client''s id: the same for the same (type, session, deadline) in every epoch.';
comment on column after_hours.events.due_at is 'When it should have been announced.';
comment on column after_hours.events.emitted_at is 'The clock time just before the commit that announced it.';
comment on column after_hours.events.known_ahead is
'Whether the pass before knew of it: due after that pass, and neither set late nor locked. Its lateness is the announcer''s own.';
comment on column after_hours.events.body is 'The finished frame, JSON text, as sent to clients.';
comment on table after_hours.set_aside is
'Due sessions that another transaction has locked (sqlstate 55P03) or whose announcement raised an error; retried at retry_at, '
'deleted once it succeeds.';

comment on table after_hours.push_targets is
'Where events go whose user is not connected: one row per HTTP address. Change it with INSERT, UPDATE and DELETE (role '
'after_hours_dba). Sent by: after-hours push.';
comment on column after_hours.push_targets.url is 'https://…; http:// on loopback only. Redirects are not followed.';
comment on column after_hours.push_targets.secret_name is
'Name of the file with the signing secret, in the sender''s directory --secrets. The secret itself is never in the database.';
comment on column after_hours.push_targets.types is 'The types of events that are pushed there.';
comment on column after_hours.push_targets.wait is 'How long after an event its user''s clients have time to acknowledge it.';
comment on column after_hours.push_targets.retry_ends_for is
'How long an end is tried again, counted from its event. A warning is tried again until its deadline, never after it.';
comment on column after_hours.push_targets.concurrency is 'Most requests at a time, of all senders together.';
comment on column after_hours.push_targets.per_second is 'Most requests per second, of all senders together.';
comment on column after_hours.push_targets.enabled is 'false: nothing is sent. Set by an answer 410 Gone as well.';
comment on column after_hours.push_targets.added_at is 'Only events emitted after this instant are pushed.';
comment on table after_hours.push_state is
'How far events have been read for a target, its rate budget, and its failures since the last success.';
comment on table after_hours.pushes is
'One row per target and event that no client acknowledged within the target''s wait. Written by push_claim() and push_result().';
comment on column after_hours.pushes.not_after is
'No attempt begins after it: the deadline of a warning; for an end see push_targets.retry_ends_for.';
comment on column after_hours.pushes.next_at is 'When it is tried next; while it is being sent, the end of the lease.';
comment on column after_hours.pushes.detail is 'The last failure, or why it was cancelled or has expired.';
comment on table after_hours.push_attempts is
'One row per attempt: by which sender, when, the HTTP status or the error. finished_at is null when the sender was killed.';

comment on table after_hours.holds is
'Holds in force: the match, or every match of the user, is not purged. Written by place_hold(), place_user_hold(), '
'release_hold().';
comment on column after_hours.holds.keep_until is 'The hold expires then; null: until released.';
comment on table after_hours.hold_log is 'Holds that were released or have expired.';
comment on table after_hours.user_blocks is
'Users whose connections the relays close and refuse. Written by block_user(), unblock_user(), disconnect_user(). Never '
'trimmed: a row makes the relays refuse the user''s older tokens.';
comment on column after_hours.user_blocks.until is
'Refused until then; null: not blocked, only tokens issued before tokens_not_before are refused.';

comment on table after_hours.purge_runs is
'Every run of the purge: who, when, why, cutoff, counts. A running one holds a lease that each batch renews.';
comment on column after_hours.purge_runs.slot is 'The 03:00 UTC that the run belongs to; one run per slot succeeds.';
comment on column after_hours.purge_runs.cutoff is
'Matches that expired before this instant were overdue: start of the run minus retention, in UTC.';
comment on column after_hours.purge_runs.waits_for is
'Who holds a lock that the run has not had for 10 s; null again with the next batch.';
comment on column after_hours.purge_runs.tail_expires_at is
'Start of the previous batch''s key range; the cursor is its end. See purge_batch().';
comment on column after_hours.brake_releases.retention is 'The retention at that time: a shorter one needs another release.';
comment on table after_hours.purge_batches is 'Batches of purged matches: a hash chain. verify_evidence() recomputes it.';
comment on column after_hours.purge_batches.digests is
'tombstone_digests() of its tombstones, four bytes each in the order of the ids.';
comment on table after_hours.purged_matches is 'Tombstones: one row per purged match, without content or participants.';
comment on table after_hours.evidence_chain is
'Head of the hash chain, locked by each batch, and the anchor: the last trimmed hash.';
comment on table after_hours.purge_failures is 'Overdue matches whose deletion raised an error. See view not_purged.';
comment on table after_hours.brake_releases is
'Who released the brake with arm(), when and why, on which server and database.';

comment on table after_hours.relays is 'The last reported state of each relay.';
comment on table after_hours.receipts is
'First write and first acknowledgement of each event on each relay. See delivery_report and unreached_warnings.';
comment on table after_hours.sql_objects is 'The objects that the last apply of sql/ created. See view sql_drift.';
comment on table after_hours.sql_ledger is
'Every apply of sql/install.sql by alembic: revision, hash, the whole text, who, when.';
comment on table after_hours.noted_owners is
'Whose the application''s tables were at the last apply: another owner since then is a row of health.';
comment on column after_hours.epochs.marker_oid is
'oid of table epoch_marker when the epoch was opened; another one: the database was restored from a dump. See is_copy().';
comment on domain after_hours.span is
'Days and time of one sign, up to 36500 days; no months, whose length differs.';
