"""One life (P3, P6): a database that was restored from a dump neither announces nor purges before arm(), and issues no id twice."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.helpers import find_tool
from tests.sql.purge_helpers import make_match, value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Connection, Instance

END = """
    insert into public.after_hours_sessions (user_id, started_at, expires_at)
    select gen_random_uuid(), now() - interval '1 hour', now() - interval '1 ms' from generate_series(1, %s)
"""


@pytest.fixture(scope="module")
def site(make_instance: Callable[..., Instance]) -> Instance:
    """An instance without jobs."""
    made = make_instance("cluster")
    made.stop_jobs()
    with made.connect() as db:
        db.execute("update after_hours.settings set announce_since = '2000-01-01Z'")
    return made


def tell(db: Connection, sessions: int) -> int:
    """So many sessions end and are announced; the last event's id."""
    db.execute((END % sessions).encode())
    assert value(db, "select expired from after_hours.announce_due()") == sessions
    return int(value(db, "select max(id) from after_hours.events"))


def restored(site: Instance, dump: Path, *options: str) -> None:
    """Put last night's dump over today's database."""
    command = [str(find_tool("pg_restore")), "--clean", "--if-exists", "-d", site.dsn(), *options, str(dump)]
    subprocess.run(command, check=True, capture_output=True, text=True)


def test_a_dump_restored_in_place_is_a_copy_until_it_is_armed(site: Instance, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    with site.connect() as db:
        make_match(db)
        tell(db, 4)
        epoch = value(db, "select name from after_hours.epochs order by ordinal desc limit 1")
        subprocess.run([find_tool("pg_dump"), "-Fc", "-N", "cron", "-f", dump, site.dsn()], check=True)
        told = tell(db, 4)
    restored(site, dump)
    with site.connect() as db:
        db.execute((END % 6).encode())
        with pytest.raises(psycopg.Error, match="copy") as raised:
            db.execute("select after_hours.announce_due()")
        assert raised.value.sqlstate == "AH044"
        db.execute("call after_hours.purge()")
        run = db.execute("select status, detail, matches from after_hours.purge_history limit 1").fetchall()[0]
        assert (run.status, run.matches) == ("braked", 0)
        assert "restored from a dump" in run.detail
        assert "announcing" in [
            row[0] for row in db.execute("select check_name from after_hours.health where not ok").fetchall()
        ]
        db.execute("select after_hours.arm('restored last night')")
        assert value(db, "select expired from after_hours.announce_due()") == 6
        assert value(db, "select name from after_hours.epochs order by ordinal desc limit 1") != epoch
        start = "select start from after_hours.relay_events(%s) where kind = 'head'"
        assert value(db, start, f"{epoch}-{told}") == "reset"
        assert value(db, start, f"{epoch}-4") == "replayed"
        db.execute("call after_hours.purge()")
        assert value(db, "select status from after_hours.purge_history limit 1") == "succeeded"
        assert not value(db, "select after_hours.is_copy()")


def test_ids_whose_sequence_was_not_carried_are_not_issued_again(site: Instance) -> None:
    with site.connect() as db:
        told = tell(db, 3)
        db.execute("select after_hours.place_user_hold(gen_random_uuid(), 'legal', 'one')")
        held = value(db, "select max(id) from after_hours.holds")
        db.execute("select after_hours.release_hold(%s, 'over')", (held,))
        runs = value(db, "select max(id) from after_hours.purge_runs")
        for table in ("events", "holds", "purge_runs", "epochs"):
            column = "ordinal" if table == "epochs" else "id"
            db.execute(f"alter table after_hours.{table} alter column {column} restart".encode())
        db.execute("select after_hours.arm('moved')")
        assert tell(db, 3) == told + 3
        assert value(db, "select id from after_hours.place_user_hold(gen_random_uuid(), 'legal', 'one')") == held + 1
        db.execute("call after_hours.purge()")
        assert value(db, "select max(id) from after_hours.purge_runs") == runs + 1


def test_a_restore_is_no_drift(site: Instance, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    subprocess.run([find_tool("pg_dump"), "-Fc", "-N", "cron", "-f", dump, site.dsn()], check=True)
    restored(site, dump)
    with site.connect() as db:
        assert db.execute("select * from after_hours.sql_drift").fetchall() == []
