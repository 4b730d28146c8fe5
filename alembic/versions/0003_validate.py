"""Validates the foreign key of messages to matches."""

from __future__ import annotations

from apply import change_text, execute

revision = "0003"
down_revision = "0002"
routines_run_one_step_back = True

FILE = "0003_validate.sql"
SHA256 = "6e5b370d697248b4561b73c0fd0e16622bafcc0f9ffceca074274883b4a3f49a"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """A validated key guards no less than one that isn't: nothing to undo."""
