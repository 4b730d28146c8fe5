"""The indexes that announcing, joining and purging need, built CONCURRENTLY."""

from __future__ import annotations

from apply import change_text, execute_each

revision = "0002"
down_revision = "0001"
routines_run_one_step_back = True  # only slower

FILE = "0002_indexes.sql"
SHA256 = "cb4d132f19fe9d65d186b46aa4a2f7e4a4b15cee7373fd744bc047cf7b5271fe"

INDEXES = (
    "after_hours_sessions_deadline_idx",
    "after_hours_sessions_user_idx",
    "after_hours_matches_overdue_idx",
)


def upgrade() -> None:
    execute_each(change_text(FILE, SHA256))


def downgrade() -> None:
    execute_each("".join(f"drop index concurrently if exists public.{name};\n" for name in INDEXES))
