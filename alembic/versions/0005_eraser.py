"""Role after_hours_eraser: the DELETEs and marks on the application's tables run with no other right."""

from __future__ import annotations

from apply import change_text, execute

revision = "0005"
down_revision = "0004"
routines_run_one_step_back = True

FILE = "0005_eraser.sql"
SHA256 = "9fb1f953d42e32e0403fdda9b81ef9c7c0f28394108fffe20ab40bb1d14963c6"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """The role stays, as all roles do; the routines as stored give the DELETE back to after_hours_owner."""
