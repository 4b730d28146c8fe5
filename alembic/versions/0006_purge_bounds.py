"""Short transactions of the purge at any backlog."""

from __future__ import annotations

from apply import change_text, execute

revision = "0006"
down_revision = "0005"
routines_run_one_step_back = True

FILE = "0006_purge_bounds.sql"
SHA256 = "5d405e41cd309f12ed62ac90ce9f5ffa8e3c00cde87679b77fc744c4775bf29c"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """The default of a setting is not taken back: it changes no value in force."""
