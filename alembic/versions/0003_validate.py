"""Validates the foreign key of messages to matches."""

from __future__ import annotations

from apply import change_text, execute

revision = "0003"
down_revision = "0002"
routines_run_one_step_back = True

FILE = "0003_validate.sql"
SHA256 = "4898ea707f9985092c47124bbd05c3daa205f05ff6c07fc4c04fa78a00907157"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """A validated key guards no less than one that isn't: nothing to undo."""
