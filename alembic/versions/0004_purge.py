"""Two columns for the purge: digests of the tombstones, and where the batch before began."""

from __future__ import annotations

from apply import change_text, execute

revision = "0004"
down_revision = "0003"
routines_run_one_step_back = True

FILE = "0004_purge.sql"
SHA256 = "771b15d0297b915e7d27161433b566f9fb3aedb72ed84f3efe5f53143aa1856f"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """The columns stay: digests are evidence, and routines that don't know them aren't disturbed."""
