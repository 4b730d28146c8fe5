-- 0004: columns for the purge. Write-once. ACCESS EXCLUSIVE on three of our own tables, for an instant.
set local lock_timeout = '5s';
-- Between which keys the batch before worked: see purge_batch(), step 1.
alter table after_hours.purge_runs
add column if not exists tail_expires_at timestamptz,
add column if not exists tail_match_id uuid;
-- A digest of each tombstone in its batch's row, so that verify_evidence() names the one that was changed; batches
-- written before have none and are named as a whole.
alter table after_hours.purge_batches add column if not exists digests bytea;
-- What whoever released the brake saw: a retention shortened since is another matter.
alter table after_hours.brake_releases add column if not exists retention interval;
