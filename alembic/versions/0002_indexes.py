"""The indexes that announcing, joining and purging need, built CONCURRENTLY."""

from __future__ import annotations

from apply import change_text, execute_each

revision = "0002"
down_revision = "0001"
routines_run_one_step_back = True  # only slower

FILE = "0002_indexes.sql"
SHA256 = "eb9350f49353e3d247dfd64f94f5d35a47ddc0d2d5ca1353a7180cba1561f412"

INDEXES = (
    "after_hours_sessions_end_idx",
    "after_hours_sessions_warning_idx",
    "after_hours_sessions_user_idx",
    "after_hours_matches_overdue_idx",
)


def upgrade() -> None:
    execute_each(change_text(FILE, SHA256))


def downgrade() -> None:
    execute_each("".join(f"drop index concurrently if exists public.{name};\n" for name in INDEXES))
