"""Webhooks for users who are not connected: targets, pushes, attempts, and role after_hours_push."""

from __future__ import annotations

from apply import change_text, execute

revision = "0006"
down_revision = "0005"
routines_run_one_step_back = True

FILE = "0006_push.sql"
SHA256 = "cd8e32b2bb62d3c86352d8b76853d310c55cd76260c56f2c9c19b48fff083960"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """The tables stay with their rows, as does the role; the routines of the version before do not know them."""
