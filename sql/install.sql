-- The table of contents of the stored logic: every object once, in an order in which each finds what it needs.
-- Run after sql/changes/, by alembic or by: psql -v ON_ERROR_STOP=1 --single-transaction -f sql/install.sql
-- Every file may be run again at any time; running all of them changes nothing that has not changed in the files.
set local search_path = pg_catalog, pg_temp; -- nothing that others made in public is found
set local lock_timeout = '2s'; -- comments: a pass of announcing has locked emitter, for 0.9 s at most
set local client_min_messages = warning;

\ir owners.sql
\ir common/list_rights.sql
\ir grants.sql
\ir comments.sql
set local lock_timeout = '200ms'; -- views: who reads them waits behind us, no longer than this; repeat it

-- what everything else uses
\ir common/iso_utc.sql
\ir common/is_paused.sql
\ir common/log_settings.sql
\ir common/is_row_error.sql
\ir common/database_identity.sql
\ir common/known_identity.sql
\ir common/is_copy.sql
\ir common/is_ticker.sql
\ir common/_list_transactions.sql
\ir common/list_lock_holders.sql
\ir common/_assert_tables.sql
\ir common/_share_tables.sql
\ir health/list_missing.sql
\ir health/assert_access.sql

-- announcing: row -> event -> NOTIFY
\ir announce/open_epoch.sql
\ir announce/keep_floor.sql
\ir announce/list_due.sql
\ir announce/announced_to.sql
\ir announce/next_event.sql
\ir announce/next_due.sql
\ir announce/emit_events.sql
\ir announce/emit_window.sql
\ir announce/emit_set_aside.sql
\ir announce/sweep_slices.sql
\ir announce/emit_due.sql
\ir announce/announce_due.sql
\ir announce/write_heartbeat.sql
\ir announce/announce_pass.sql
\ir announce/announce_mode.sql
\ir announce/end_stuck_loops.sql
\ir announce/announce_loop.sql

-- the application
\ir application/session_length.sql
\ir application/start_session.sql
\ir application/extend_session.sql
\ir application/end_session.sql
\ir evidence/purged_at.sql
\ir application/save_match.sql
\ir application/visible_messages.sql

-- retention: hold, preview, purge, prove
\ir purge/purge_cutoff.sql
\ir purge/purge_due_at.sql
\ir purge/assert_row_visibility.sql
\ir purge/has_enforced_key.sql
\ir purge/latest_slot.sql
\ir purge/purgeable_matches.sql
\ir purge/brake.sql
\ir purge/arm.sql
\ir moderation/validate_hold.sql
\ir moderation/place_hold.sql
\ir moderation/place_user_hold.sql
\ir moderation/release_hold.sql
\ir moderation/expire_holds.sql
\ir evidence/evidence_hash.sql
\ir evidence/tombstone_digests.sql
\ir purge/delete_rows.sql
\ir purge/delete_matches.sql
\ir evidence/record_tombstones.sql
\ir purge/replication_lag.sql
\ir purge/next_batch_size.sql
\ir purge/finish_purge_run.sql
\ir purge/pick_failed_matches.sql
\ir purge/finish_purge_pass.sql
\ir purge/open_purge_run.sql
\ir purge/purge_batch.sql
\ir purge/close_purge_run.sql
\ir purge/renew_purge_lease.sql
\ir purge/purge.sql
\ir evidence/deletion_receipt.sql
\ir evidence/find_broken_tombstone.sql
\ir evidence/_verify_evidence.sql
\ir evidence/verify_evidence.sql
\ir evidence/trim_evidence.sql
\ir purge/list_dependencies.sql
\ir purge/count_dependent_rows.sql
\ir purge/_purge_preview.sql
\ir purge/purge_preview.sql
\ir purge/_explain_match.sql
\ir purge/explain_match.sql
\ir purge/list_not_purged.sql
\ir purge/not_purged.sql
\ir purge/list_backlog.sql
\ir purge/backlog.sql
\ir moderation/retained_messages.sql
\ir moderation/stale_holds.sql
\ir purge/purge_history.sql

-- jobs: what pg_cron runs, and the DBA's hand on it
\ir jobs/pause_job.sql
\ir jobs/resume_job.sql
\ir announce/trim_events.sql
\ir jobs/trim_logs.sql
\ir jobs/trim_job_runs.sql
\ir jobs/housekeeping.sql
\ir jobs/last_planned.sql
\ir jobs/ticker_beat.sql
\ir jobs/ticker_claim.sql
\ir jobs/ticker_finish.sql
\ir jobs/trim_ticker_runs.sql
\ir jobs/install_jobs.sql
\ir jobs/uninstall_jobs.sql
\ir jobs/plan.sql

-- the relay's surface
\ir relay/log_position.sql
\ir relay/resolve_cursor.sql
\ir relay/blocked_ms.sql
\ir relay/_relay_attach.sql
\ir relay/relay_attach.sql
\ir relay/_relay_events.sql
\ir relay/relay_events.sql
\ir relay/relay_probe.sql
\ir relay/needs_rescue.sql
\ir relay/relay_beat.sql
\ir relay/relay_receipts.sql
\ir relay/relay_rescue.sql

-- webhooks for users who are not connected
\ir relay/first_event_since.sql
\ir push/push_verdict.sql
\ir push/push_read.sql
\ir push/push_claim.sql
\ir push/push_result.sql
\ir push/list_push_backlog.sql
\ir push/push_backlog.sql
\ir push/push_history.sql

-- blocks
\ir moderation/block_user.sql
\ir moderation/unblock_user.sql
\ir moderation/disconnect_user.sql

-- the DBA's views
\ir jobs/list_jobs.sql
\ir jobs/jobs.sql
\ir jobs/list_job_runs.sql
\ir jobs/job_runs.sql
\ir announce/list_upcoming.sql
\ir announce/upcoming.sql
\ir announce/lateness.sql
\ir relay/list_unreached_warnings.sql
\ir relay/unreached_warnings.sql
\ir relay/delivery_report.sql
\ir health/list_sql_objects.sql
\ir health/sql_drift.sql
\ir health/check_scheduler.sql
\ir health/check_jobs.sql
\ir health/check_job_runs.sql
\ir health/check_announce_mode.sql
\ir health/check_announcing.sql
\ir health/check_overdue_events.sql
\ir health/check_set_aside.sql
\ir health/check_locks.sql
\ir health/check_notify_queue.sql
\ir health/check_purge.sql
\ir health/check_brake.sql
\ir health/check_not_purged.sql
\ir health/check_relays.sql
\ir health/check_listeners.sql
\ir health/check_push.sql
\ir health/check_sql_drift.sql
\ir health/check_indexes.sql
\ir health/check_access.sql
\ir health/run_checks.sql
\ir health/list_health.sql
\ir health/health.sql
\ir health/list_gauges.sql
\ir relay/relay_status.sql
\ir health/examine_server.sql
\ir health/examine_pg_cron.sql
\ir health/examine_jobs.sql
\ir health/examine_access.sql
\ir health/list_exposures.sql
\ir health/examine_dependencies.sql
\ir health/examine_tables.sql
\ir health/examine_replication.sql
\ir health/doctor.sql
\ir health/help.sql

-- last: what an earlier removal has kept comes back; what was applied is noted down, and pg_cron gets the jobs
\ir kept.sql
\ir prune.sql
\ir jobs/schedule.sql
