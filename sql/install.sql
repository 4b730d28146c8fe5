-- The table of contents of the stored logic: every object once, in an order in which each finds what it needs.
-- Run after sql/changes/, by alembic or by: psql -v ON_ERROR_STOP=1 --single-transaction -f sql/install.sql
-- Every file may be run again at any time; running all of them changes nothing that has not changed in the files.
set local lock_timeout = '5s';
set local client_min_messages = warning;

\ir grants.sql
\ir comments.sql

-- what everything else uses
\ir functions/iso_utc.sql
\ir functions/session_deadline.sql
\ir functions/is_paused.sql
\ir functions/log_settings.sql

-- announcing: row -> event -> NOTIFY
\ir functions/current_epoch.sql
\ir functions/open_epoch.sql
\ir functions/find_due.sql
\ir functions/next_due.sql
\ir functions/emit_events.sql
\ir functions/announce_due.sql
\ir functions/announce_pass.sql
\ir procedures/announce_loop.sql

-- the application
\ir functions/start_session.sql
\ir functions/extend_session.sql
\ir functions/end_session.sql
\ir functions/purged_at.sql
\ir functions/save_match.sql
\ir views/visible_messages.sql
