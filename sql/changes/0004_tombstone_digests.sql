-- 0004: a digest of each tombstone in its batch's row: verify_evidence() names the one that was changed. Write-once.
-- ACCESS EXCLUSIVE on purge_batches for an instant; batches written before have none and are named as a whole.
alter table after_hours.purge_batches add column if not exists digests bytea;
