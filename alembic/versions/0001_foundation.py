"""Roles, schema, the application's tables and the tables of the stored logic."""

from __future__ import annotations

from apply import SQL, change_text, execute

revision = "0001"
down_revision = None

FILE = "0001_foundation.sql"
SHA256 = "abe3ea907aed8d5b30f5c04a9218ba744750eed91da89040e7cd4141266974c0"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    execute((SQL / "uninstall.sql").read_text(encoding="utf-8"))
