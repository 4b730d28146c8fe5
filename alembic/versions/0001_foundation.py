"""Roles, schema, the application's tables and the tables of the stored logic."""

from __future__ import annotations

from apply import SQL, change_text, execute

revision = "0001"
down_revision = None

FILE = "0001_foundation.sql"
SHA256 = "ef0532d286d913b023a0162c543a062c8cd5266db9777bd12222a6ea9e545ade"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    execute((SQL / "uninstall.sql").read_text(encoding="utf-8"))
