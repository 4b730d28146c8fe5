-- 0007: announcing without marks. Write-once. Each statement is a transaction of its own (CONCURRENTLY); plain statements
-- only. The marks themselves go at the end of install.sql, together with the routines that read them: drop_marks.sql.

-- due for the end and for the warning; the id makes it a keyset, and gives the order in which events are compared with it
create index concurrently if not exists after_hours_sessions_deadline_idx
on public.after_hours_sessions (least(ended_at, expires_at), id);

-- one event per (type, session, deadline), led by the deadline: neighbours in time are neighbours in the index
create unique index concurrently if not exists events_expired_key
on after_hours.events (deadline, session_id) where type = 'after_hours:session_expired';
create unique index concurrently if not exists events_expiring_key
on after_hours.events (deadline, session_id) where type = 'after_hours:session_expiring';

-- deadlines up to here are never announced again: their events were trimmed
alter table after_hours.event_floor
add column if not exists expired_to timestamptz not null default '-infinity',
add column if not exists expiring_to timestamptz not null default '-infinity';

alter table after_hours.emitter
add column if not exists swept_at timestamptz,
add column if not exists sweep_at timestamptz;

-- commits of 2,000 events: relays write while the next are made
alter table after_hours.settings alter column announce_batch set default 2000;
update after_hours.settings set announce_batch = 2000 where announce_batch = 5000;
