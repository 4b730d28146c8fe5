"""Roles, schema, the application's tables and the tables of the stored logic."""

from __future__ import annotations

from apply import SQL, change_text, execute

revision = "0001"
down_revision = None

FILE = "0001_foundation.sql"
SHA256 = "58018beadbabda47c724c9988befad1d38c4590f3925cd7580167d374750e083"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    execute((SQL / "uninstall.sql").read_text(encoding="utf-8"))
