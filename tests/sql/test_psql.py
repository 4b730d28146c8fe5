"""sql/psql/purge.sql as a hand uses it, through a real psql: preview, purge, receipt, proof, and a tampered row found."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sql.purge_helpers import make_match, value

if TYPE_CHECKING:
    from tests.conftest import Connection, Instance

ROOM = Path(__file__).resolve().parents[2] / "sql" / "psql"


def psql(instance: Instance, typed: str) -> str:
    """What psql says to what is typed."""
    result = subprocess.run(
        ["psql", "-X", "-P", "pager=off", instance.dsn()], input=typed, capture_output=True, text=True, timeout=60
    )
    return result.stdout + result.stderr


def test_preview_purge_receipt_tampered(db: Connection, instance: Instance) -> None:
    match = make_match(db)
    held = make_match(db)
    db.execute("select after_hours.place_hold(%s, 'legal', 'case 7')", (held,))
    said = psql(instance, f"\\i {ROOM}/purge.sql\n1\n")
    assert "succeeded: 1 matches, 3 messages" in said, said
    assert f"Match {match} expired at" in said, said
    assert "1 batches verified" in said, said
    assert "case 7" in said, said
    assert "(0 rows)" in psql(instance, f"\\i {ROOM}/evidence.sql\n")
    db.execute("update after_hours.purged_matches set messages = 2")
    assert "tombstones add up to 2 messages instead of 3" in psql(instance, f"\\i {ROOM}/evidence.sql\n")


def test_inside_a_transaction_and_pasted_it_does_nothing(db: Connection, instance: Instance) -> None:
    make_match(db)
    said = psql(instance, f"begin;\n\\i {ROOM}/purge.sql\n1\nrollback;\n")
    assert "You are inside a transaction" in said, said
    said = psql(instance, (ROOM / "purge.sql").read_text())
    assert "Nothing was deleted." in said, said
    assert value(db, "select count(*) from public.after_hours_matches") == 1
