"""Roles, schema, the application's tables and the tables of the stored logic."""

from __future__ import annotations

from apply import SQL, change_text, execute

revision = "0001"
down_revision = None

FILE = "0001_foundation.sql"
SHA256 = "3158a879eb64f4579df3a2b5e6c4db100a81d6f954bc69a13df5828748ef1e63"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    execute((SQL / "uninstall.sql").read_text(encoding="utf-8"))
