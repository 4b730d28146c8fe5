-- 0008: short transactions of the purge at any backlog. Write-once. ACCESS EXCLUSIVE on two of our own tables, for an instant.
set local lock_timeout = '5s';
-- The value in force stays as it is; docs/operations.md, "The key of the messages", says when to change it.
alter table after_hours.settings alter column purge_batch_target set default '60 milliseconds';
