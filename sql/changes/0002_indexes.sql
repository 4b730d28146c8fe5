-- 0002: the indexes that announcing, joining and purging stand on. Write-once.
-- CONCURRENTLY: on an adopted table of any size nobody waits. So each statement is a transaction of its own; a file
-- of this kind holds plain statements only. If one is interrupted, doctor() names the invalid index and what to type.

-- due for the end and for the warning; the id makes it a keyset, and gives the order in which events are compared with it
create index concurrently if not exists after_hours_sessions_deadline_idx
on public.after_hours_sessions (least(ended_at, expires_at), id);

-- the snapshot that a joining client gets
create index concurrently if not exists after_hours_sessions_user_idx
on public.after_hours_sessions (user_id, expires_at);

-- candidates of the purge, in the order of its keyset
create index concurrently if not exists after_hours_matches_overdue_idx
on public.after_hours_matches (expires_at, id)
where converted_to_match_id is null;
