"""Roles, schema, the application's tables and the tables of the stored logic."""

from __future__ import annotations

from apply import SQL, change_text, execute

revision = "0001"
down_revision = None

FILE = "0001_foundation.sql"
SHA256 = "40b1562c094477ed434f2a1383cdc667ac0fb8270bf244e61852a5b849b1e29b"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    execute((SQL / "uninstall.sql").read_text(encoding="utf-8"))
