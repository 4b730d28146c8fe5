"""Short transactions of the purge at any backlog."""

from __future__ import annotations

from apply import change_text, execute

revision = "0008"
down_revision = "0007"
routines_run_one_step_back = True

FILE = "0008_purge_bounds.sql"
SHA256 = "9d884a1721dd66b0e7e55390a694e76be080044f22e9358e7816c5fc36d56cc3"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """The default of a setting is not taken back: it changes no value in force."""
