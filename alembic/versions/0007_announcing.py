"""Announcing without marks: an index on the deadline, keys of events by deadline, floors of what was trimmed."""

from __future__ import annotations

from apply import change_text, execute_each

revision = "0007"
down_revision = "0006"
routines_run_one_step_back = True

FILE = "0007_announcing.sql"
SHA256 = "9cfc9acff40abe3e71c5ad6e1f6ce5ce7a122e0e108ff5dc17c6280d5f3c5275"

# What routines of 0006 and before read. They skip a session whose event exists; of those whose event was trimmed, and
# of what was due an hour ago, nothing is announced again.
MARKS = """
alter table public.after_hours_sessions add column if not exists warned_for timestamptz,
add column if not exists expired_for timestamptz;
comment on column public.after_hours_sessions.warned_for is 'After Hours added this column.';
comment on column public.after_hours_sessions.expired_for is 'After Hours added this column.';
create index concurrently if not exists after_hours_sessions_end_idx
on public.after_hours_sessions (least(ended_at, expires_at))
where expired_for is distinct from least(ended_at, expires_at);
create index concurrently if not exists after_hours_sessions_warning_idx
on public.after_hours_sessions (expires_at)
where ended_at is null and warned_for is distinct from expires_at;
alter table after_hours.events add constraint events_type_session_id_deadline_key unique (type, session_id, deadline);
grant select, update (warned_for, expired_for) on public.after_hours_sessions to after_hours_eraser;
update after_hours.settings as s
set announce_since = greatest(s.announce_since, f.expired_to, e.swept_at - interval '1 hour')
from after_hours.event_floor as f, after_hours.emitter as e;
"""


def upgrade() -> None:
    execute_each(change_text(FILE, SHA256))


def downgrade() -> None:
    execute_each(MARKS)
