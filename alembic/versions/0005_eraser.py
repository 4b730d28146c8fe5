"""Role after_hours_eraser: the DELETEs and marks on the application's tables run with no other right."""

from __future__ import annotations

from apply import change_text, execute

revision = "0005"
down_revision = "0004"
routines_run_one_step_back = True

FILE = "0005_eraser.sql"
SHA256 = "52fd7762e45564c27c2d74646034d54325f0c0351e999598d6cbcd23d3b52a2d"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """The role stays, as all roles do; the routines as stored give the DELETE back to after_hours_owner."""
