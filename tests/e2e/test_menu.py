"""Each entry of the psql menu, run as a member of after_hours_dba without other privileges."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from tests.helpers import REPO

if TYPE_CHECKING:
    from tests.conftest import Connection

MATCH = "00000000-0000-4000-8000-0000000000aa"
USER = "00000000-0000-4000-8000-0000000000bb"


def console(db: Connection, *typed: str, script: str = "menu.psql") -> str:
    """What psql shows; errors end it."""
    info = db.info
    result = subprocess.run(
        ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-f", str(REPO / "sql" / "psql" / script)],
        env={**os.environ, "PGHOST": info.host, "PGPORT": str(info.port), "PGUSER": "postgres",
             "PGDATABASE": "after_hours", "PGOPTIONS": "-c role=after_hours_dba"},
        input="\n".join(typed) + "\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "ERROR" not in result.stderr, result.stderr
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def overdue(db: Connection) -> None:
    db.execute(
        "insert into public.after_hours_matches (id, user_a, user_b, created_at, expires_at) "
        "values (%s, %s, gen_random_uuid(), now() - interval '90 days', now() - interval '40 days')",
        (MATCH, USER),
    )


def test_every_entry_that_only_looks(db: Connection) -> None:
    overdue(db)
    shown = console(db, "1", "2", "4", MATCH, "9", USER, "10", "11", "12", "13", "14", "nonsense", "q")
    assert "no scheduled run has announced yet" in shown
    assert "pg_cron launcher" in shown
    assert "the next run deletes it" in shown or "due" in shown
    assert "PROVE" in shown
    assert "There is no such entry." in shown


def test_purge_asks_for_the_number_and_shows_the_run(db: Connection) -> None:
    overdue(db)
    assert "Nothing was deleted." in console(db, "3", "yes", "q")
    assert "Nothing was deleted." in console(db, "", script="purge.sql")
    assert len(db.execute("select from public.after_hours_matches").fetchall()) == 1
    shown = console(db, "3", "1", "q")
    assert "succeeded: 1 matches, 0 messages" in shown
    assert db.execute("select from public.after_hours_matches").fetchall() == []


def test_hold_release_pause_resume(db: Connection) -> None:
    overdue(db)
    console(db, "5", "match", MATCH, "report", "somebody was hurt", "", "q")
    console(db, "5", "user", USER, "legal", "a letter", "2099-01-01", "q")
    assert len(db.execute("select from after_hours.holds").fetchall()) == 2
    assert "Nothing was deleted." in console(db, "3", "0", "q")
    row = db.execute("select min(id) as id from after_hours.holds").fetchone()
    assert row is not None
    console(db, "6", str(row.id), "settled", "q")
    assert len(db.execute("select from after_hours.hold_log").fetchall()) == 1
    console(db, "7", "purge", "", "a backup is running", "q")
    assert db.execute("select job from after_hours.pauses").fetchall() == [("purge",)]
    console(db, "8", "purge", "q")
    assert db.execute("select job from after_hours.pauses").fetchall() == []
