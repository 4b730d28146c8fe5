"""after-hours tick in a database without pg_cron: installs, announces, purges, two side by side, one killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from tests.helpers import REPO, poll_until
from tests.sql.test_migrations import DROP_TABLES, ROLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Instance

DATABASE = "no_cron"
RUNNING = "select count(*) from after_hours.tickers where seen_at > clock_timestamp() - interval '12 seconds'"


class Ticking:
    """A database in which pg_cron is not, and processes of after-hours for it."""

    def __init__(self, instance: Instance) -> None:
        self._dsn = instance.dsn
        self.db = psycopg.connect(instance.dsn(database=DATABASE), autocommit=True, row_factory=namedtuple_row)

    def environment(self, role: str) -> dict[str, str]:
        return {**os.environ, "AFTER_HOURS_DSN": self._dsn(role, DATABASE)}

    def run(self, *arguments: str, role: str = "after_hours_stranger") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "relay", *arguments]
        return subprocess.run(
            command, cwd=REPO, env=self.environment(role), capture_output=True, text=True, timeout=100
        )

    def tick(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "relay", "tick"]
        return subprocess.Popen(
            command, cwd=REPO, env=self.environment("after_hours_jobs"), stderr=subprocess.PIPE, text=True
        )

    def value(self, query: str, *values: Any) -> Any:
        row = self.db.execute(query.encode(), values or None).fetchone()
        assert row is not None
        return row[0]

    def end_session(self) -> uuid.UUID:
        """A session that is over now."""
        found = self.value(
            "insert into public.after_hours_sessions (user_id, started_at, expires_at) "
            "values (gen_random_uuid(), now() - interval '1 hour', clock_timestamp()) returning id"
        )
        assert isinstance(found, uuid.UUID)
        return found

    def is_told(self, session: uuid.UUID) -> bool:
        count = self.value(
            "select count(*) from after_hours.events where session_id = %s and type = 'after_hours:session_expired'",
            session,
        )
        return bool(count == 1)


@pytest.fixture(scope="module")
def ticking(make_instance: Callable[..., Instance]) -> Iterator[Ticking]:
    """Installed by a role that has CREATEROLE and its database, nothing else; there are no roles of ours before."""
    instance = make_instance("cluster")
    base = [sys.executable, "-m", "alembic", "downgrade", "base"]
    subprocess.run(
        base, cwd=REPO, env={**os.environ, "AFTER_HOURS_DSN": instance.dsn()}, check=True, capture_output=True
    )
    with instance.connect() as connection:
        connection.execute(DROP_TABLES)
        for role in ROLES:
            connection.execute(f"drop owned by after_hours_{role} cascade; drop role after_hours_{role}".encode())
        connection.execute("create role after_hours_stranger login createrole")
        connection.execute(f"create database {DATABASE} owner after_hours_stranger".encode())
    made = Ticking(instance)
    yield made
    made.db.close()


def test_without_pg_cron_everything_runs_by_tickers(ticking: Ticking) -> None:
    refused = ticking.run("migrate")
    assert refused.returncode == 1
    assert "Without pg_cron: after-hours migrate --ticker" in refused.stderr
    assert ticking.value("select to_regnamespace('after_hours') is null"), "nothing has changed"
    for arguments in (("migrate", "--ticker"), ("migrate",)):  # an upgrade knows it
        done = ticking.run(*arguments)
        assert done.returncode == 0, done.stderr
    health = "select detail from after_hours.health where check_name = %s"
    assert ticking.value(health, "scheduler") == "0 tickers are running"
    assert ticking.db.execute("select * from after_hours.list_missing()").fetchall() == []
    assert ticking.value("select detail from after_hours.install_jobs()").startswith("nothing is scheduled")
    assert ticking.value("select after_hours.uninstall_jobs()") == 0

    first, second = ticking.tick(), ticking.tick()
    try:
        poll_until(lambda: ticking.value(RUNNING) == 2)
        session = ticking.end_session()
        poll_until(lambda: ticking.is_told(session))
        runs = "select count(*) from after_hours.job_runs where status = 'succeeded'"
        poll_until(lambda: ticking.value(runs) >= 3, what="each job of the plan has had its time before")
        assert ticking.value("select count(*) from after_hours.ticker_runs") == 3, (
            "each once, though there are two tickers"
        )
        not_ok: list[Any] = ticking.db.execute(
            "select check_name, detail from after_hours.health where not ok"
        ).fetchall()
        assert {row.check_name for row in not_ok} <= {"relays"}, not_ok
        assert ticking.value("select count(*) from after_hours.jobs where is_active and mode = 'ticker'") == 6
        unseen = "select * from after_hours.doctor() where finding like 'can''t be checked%'"
        assert ticking.db.execute(unseen).fetchall() == []

        first.kill()
        session = ticking.end_session()
        poll_until(lambda: ticking.is_told(session), what="the other one goes on")
        ticking.db.execute("select after_hours.pause_job('announce', clock_timestamp() + interval '1 minute', 'test')")
        ticking.db.execute("select pg_sleep(1.5)")
        session = ticking.end_session()
        ticking.db.execute("select pg_sleep(1.5)")
        assert not ticking.is_told(session), "paused"
        ticking.db.execute("select after_hours.resume_job('announce')")
        poll_until(lambda: ticking.is_told(session))
        # a job whose ticker was killed, and whose time comes again
        ticking.db.execute(
            "update after_hours.ticker_runs set started_at = started_at - interval '2 hours', status = 'running', node = 'gone' "
            "where job = 'housekeeping'"
        )
        poll_until(
            lambda: ticking.value("select count(*) from after_hours.ticker_runs where job = 'housekeeping'") == 2
        )
        assert (
            ticking.value("select message from after_hours.ticker_runs where node = 'gone'")
            == "the ticker ended before its job"
        )
    finally:
        second.send_signal(signal.SIGTERM)
        second.communicate(timeout=20)
        first.communicate(timeout=20)
    assert second.returncode == 0
    assert ticking.value("select count(*) from after_hours.tickers where node like %s", f"%:{second.pid}") == 0


def test_a_ticker_does_nothing_where_pg_cron_runs_the_jobs(ticking: Ticking) -> None:
    with ticking.db.transaction(force_rollback=True):
        ticking.db.execute("update after_hours.settings set scheduler = 'pg_cron'")
        with pytest.raises(psycopg.Error, match="a ticker would run them a second time"):
            ticking.db.execute("select * from after_hours.ticker_claim('x')")


@pytest.mark.parametrize(
    ("schedule", "now", "last"),
    [
        ("0 3 * * *", "2026-11-27 02:59:59+00", "2026-11-26 03:00+00"),
        ("0 3 * * *", "2026-11-27 03:00:00+00", "2026-11-27 03:00+00"),
        ("17 * * * *", "2026-11-27 03:16:59+00", "2026-11-27 02:17+00"),
        ("17 * * * *", "2026-11-27 00:17:00+00", "2026-11-27 00:17+00"),
        ("* * * * *", "2026-11-27 00:17:00+00", None),
        ("@reboot", "2026-11-27 00:17:00+00", None),
    ],
)
def test_the_last_planned_instant(ticking: Ticking, schedule: str, now: str, last: str | None) -> None:
    assert ticking.value(
        "select after_hours.last_planned(%s, %s) is not distinct from %s::timestamptz", schedule, now, last
    )
