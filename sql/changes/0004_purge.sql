-- 0004: two columns for the purge. Write-once. ACCESS EXCLUSIVE on two of our own tables for an instant.
-- A digest of each tombstone in its batch's row, so that verify_evidence() names the one that was changed; batches
-- written before have none and are named as a whole. And where the batch before began: see purge_batch(), step 3.
alter table after_hours.purge_batches add column if not exists digests bytea;
alter table after_hours.purge_runs add column if not exists tail_expires_at timestamptz;
