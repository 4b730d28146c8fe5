"""Columns for the purge: digests of tombstones, where the batch before worked, what a release of the brake saw."""

from __future__ import annotations

from apply import change_text, execute

revision = "0004"
down_revision = "0003"
routines_run_one_step_back = True

FILE = "0004_purge.sql"
SHA256 = "1847729a4993bd738e2d8c75ff55101b1c59ac8985f27e253f2a23763dc3e365"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """The columns stay: digests are evidence, and routines that don't know them aren't disturbed."""
