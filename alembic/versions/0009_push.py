"""Webhooks for users who are not connected: targets, pushes, attempts, and role after_hours_push."""

from __future__ import annotations

from apply import change_text, execute

revision = "0009"
down_revision = "0005"
routines_run_one_step_back = True

FILE = "0009_push.sql"
SHA256 = "0b54c844668611d7a4c4675267572ab7105e53f4fe82e556b34916d820df5338"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """The tables stay with their rows, as does the role; the routines of the version before do not know them."""
