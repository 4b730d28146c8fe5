-- The table of contents of the stored logic: every object once, in an order in which each finds what it needs.
-- Run after sql/changes/, by alembic or by: psql -v ON_ERROR_STOP=1 --single-transaction -f sql/install.sql
-- Every file may be run again at any time; running all of them changes nothing that has not changed in the files.
set local lock_timeout = '5s';
set local client_min_messages = warning;

\ir grants.sql

-- what everything else uses
\ir functions/iso_utc.sql
\ir functions/is_paused.sql
\ir functions/log_settings.sql

-- announcing: row -> event -> NOTIFY
\ir functions/open_epoch.sql
\ir functions/next_due.sql
\ir functions/emit_events.sql
\ir functions/announce_due.sql
\ir functions/write_heartbeat.sql
\ir functions/announce_pass.sql
\ir functions/announce_mode.sql
\ir functions/end_stuck_loops.sql
\ir procedures/announce_loop.sql

-- the application
\ir functions/session_length.sql
\ir functions/start_session.sql
\ir functions/extend_session.sql
\ir functions/end_session.sql
\ir functions/purged_at.sql
\ir functions/save_match.sql
\ir views/visible_messages.sql

-- retention: hold, preview, purge, prove
\ir functions/purge_cutoff.sql
\ir functions/sees_all_rows.sql
\ir functions/has_enforced_key.sql
\ir functions/identity.sql
\ir functions/latest_slot.sql
\ir views/purgeable_matches.sql
\ir functions/brake.sql
\ir functions/arm.sql
\ir functions/check_hold.sql
\ir functions/place_hold.sql
\ir functions/place_user_hold.sql
\ir functions/release_hold.sql
\ir functions/lapse_holds.sql
\ir functions/evidence_hash.sql
\ir functions/tombstone_digests.sql
\ir functions/erase_matches.sql
\ir functions/purge_pressure.sql
\ir functions/open_purge_run.sql
\ir functions/purge_batch.sql
\ir functions/close_purge_run.sql
\ir procedures/purge.sql
\ir functions/deletion_receipt.sql
\ir functions/broken_tombstone.sql
\ir functions/verify_evidence.sql
\ir functions/trim_evidence.sql
\ir functions/application_ties.sql
\ir functions/count_tied.sql
\ir functions/purge_preview.sql
\ir functions/explain_match.sql
\ir functions/read_not_purged.sql
\ir views/not_purged.sql
\ir functions/read_backlog.sql
\ir views/backlog.sql
\ir views/retained_messages.sql
\ir views/stale_holds.sql
\ir views/purge_history.sql

-- jobs: what pg_cron runs, and the DBA's hand on it
\ir functions/pause_job.sql
\ir functions/resume_job.sql
\ir functions/trim_events.sql
\ir functions/trim_logs.sql
\ir functions/trim_job_runs.sql
\ir procedures/housekeeping.sql
\ir functions/install_jobs.sql
\ir functions/uninstall_jobs.sql
\ir jobs/announce.sql
\ir jobs/announce_spare.sql
\ir jobs/announce_boot.sql
\ir jobs/purge.sql
\ir jobs/purge_catch_up.sql
\ir jobs/housekeeping.sql

-- the relay's surface
\ir functions/log_position.sql
\ir functions/cursor_id.sql
\ir functions/blocked_ms.sql
\ir functions/relay_attach.sql
\ir functions/relay_events.sql
\ir functions/relay_probe.sql
\ir functions/relay_beat.sql
\ir functions/relay_receipts.sql
\ir functions/relay_rescue.sql

-- blocks
\ir functions/block_user.sql
\ir functions/unblock_user.sql
\ir functions/disconnect_user.sql

-- the DBA's views
\ir functions/list_jobs.sql
\ir views/jobs.sql
\ir functions/list_job_runs.sql
\ir views/job_runs.sql
\ir functions/list_upcoming.sql
\ir views/upcoming.sql
\ir views/lateness.sql
\ir functions/first_event_since.sql
\ir functions/list_unreached_warnings.sql
\ir views/unreached_warnings.sql
\ir views/delivery_report.sql
\ir functions/list_sql_objects.sql
\ir views/sql_drift.sql
\ir functions/check_scheduler.sql
\ir functions/check_announcing.sql
\ir functions/check_retention.sql
\ir functions/check_relays.sql
\ir functions/check_schema.sql
\ir views/health.sql
\ir functions/relay_status.sql
\ir functions/examine_server.sql
\ir functions/doctor.sql
\ir functions/help.sql

-- last: what makes a pass of announcing wait until this commits, what was applied, and pg_cron gets the jobs
\ir comments.sql
\ir seal.sql
\ir jobs/schedule.sql
