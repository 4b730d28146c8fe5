"""A digest of each tombstone, so that a changed one can be named."""

from __future__ import annotations

from apply import change_text, execute

revision = "0004"
down_revision = "0003"
routines_run_one_step_back = True

FILE = "0004_tombstone_digests.sql"
SHA256 = "f2dd499c3dd46d33fae0905a2bcfe3ff4eee83f655664d5bb91709af43ada20c"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """The column stays, with the digests in it: they are evidence, and routines that don't know it aren't disturbed."""
