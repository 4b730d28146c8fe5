"""P1, P2, P10 when the server's clock jumps: libfaketime stands between PostgreSQL, pg_cron in it, and the time."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.helpers import open_to_others, poll_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Connection, Instance

LOOPS = "select pid from pg_stat_activity where query ilike 'call after_hours.announce_loop%' and state <> 'idle'"
ANNOUNCING = "select ok, detail, next_command from after_hours.health where check_name = 'announcing'"
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class Clock:
    """The server's clock, so many seconds away from the machine's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0)

    def set(self, seconds: int) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.path)  # at once: the server reads it whenever it asks for the time


@pytest.fixture(scope="module")
def clocked(
    make_instance: Callable[..., Instance], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Instance, Clock]]:
    """An instance whose server was started under libfaketime."""
    if not FAKETIME:
        pytest.skip("needs libfaketime: apt-get install libfaketime")
    instance = make_instance("cluster")
    directory = tmp_path_factory.mktemp("clock")
    open_to_others(directory)
    clock = Clock(directory / "offset")
    data = (instance.home / "cluster" / "data").resolve()
    with instance.connect() as connection:
        binaries = wait(connection, "select setting from pg_config() where name = 'BINDIR'").setting
        connection.execute("select after_hours.uninstall_jobs()")  # the tests start the loops that they need
    control = [f"{binaries}/pg_ctl", "-D", str(data), "-w"]
    if os.geteuid() == 0:
        control = ["runuser", "-u", "postgres", "--", *control]
    faked = {
        **os.environ, "LD_PRELOAD": str(FAKETIME[-1]), "FAKETIME_TIMESTAMP_FILE": str(clock.path), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    subprocess.run([*control, "-m", "fast", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    subprocess.run(
        [*control, "-l", str(data.parent / "postgres.log"), "start"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=faked,
        cwd="/",
    )
    yield instance, clock
    subprocess.run([*control, "-m", "fast", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")


@contextmanager
def looping(instance: Instance, db: Connection) -> Iterator[None]:
    """With one loop, started as pg_cron would at the next minute, which is not waited for; it is in its sleep."""
    with instance.connect("after_hours_jobs") as job:

        def run() -> None:
            with suppress(psycopg.OperationalError):
                job.execute("call after_hours.announce_loop('59.9 s')")

        thread = threading.Thread(target=run)
        thread.start()
        try:
            wait(db, f"{LOOPS} and wait_event = 'PgSleep'")
            yield
        finally:
            with suppress(psycopg.OperationalError):
                job.cancel_safe()
            thread.join()


@pytest.fixture
def db(clocked: tuple[Instance, Clock]) -> Iterator[Connection]:
    instance, clock = clocked
    clock.set(0)
    with instance.connect() as connection, looping(instance, connection):
        yield connection


def wait(db: Connection, query: str) -> Any:
    """The first row of a query that has none at first."""
    return poll_until(lambda: db.execute(query).fetchall(), what=query)[0]


def start(db: Connection, seconds: float) -> Any:
    row = db.execute(
        "insert into public.after_hours_sessions (user_id, expires_at)"
        " values (gen_random_uuid(), clock_timestamp() + make_interval(secs => %s)) returning id",
        (seconds,),
    ).fetchone()
    assert row
    return row.id


def test_ahead_what_has_become_due_goes_out_at_once_and_nothing_twice(
    clocked: tuple[Instance, Clock], db: Connection
) -> None:
    ended, warned = start(db, 3600), start(db, 3700)
    time.sleep(1)
    assert not db.execute("select from after_hours.events").fetchall()
    clocked[1].set(3605)
    began = time.monotonic()
    wait(db, f"select from after_hours.events where session_id = '{ended}'")
    wait(db, f"select from after_hours.events where session_id = '{warned}'")
    assert time.monotonic() - began < 10, "by the loop that runs, not by the one of the next minute"
    rows = db.execute("select type, session_id from after_hours.events order by id").fetchall()
    assert [tuple(row) for row in rows] == [
        ("after_hours:session_expired", ended), ("after_hours:session_expiring", warned),
    ]  # fmt: skip
    clocked[1].set(0)  # and back: what was announced is not announced again
    db.execute("select after_hours.end_stuck_loops()")
    db.execute("select after_hours.announce_due()")
    assert len(db.execute("select from after_hours.events").fetchall()) == 2


def test_behind_a_sleeping_loop_is_found_and_ended(clocked: tuple[Instance, Clock], db: Connection) -> None:
    """PostgreSQL ends a sleep by the clock: the loop would hold the lock for an hour."""
    db.execute("update after_hours.settings set announce_since = '2000-01-01'")  # it was installed an hour from now
    with looping(clocked[0], db):
        waiting = wait(db, f"{LOOPS} and wait_event = 'relation'").pid
        clocked[1].set(-3600)
        session = start(db, 1)
        time.sleep(2)
        told = f"select from after_hours.events where session_id = '{session}' and type = 'after_hours:session_expired'"
        assert not db.execute(told).fetchall(), "the end is not announced yet"
        row = wait(db, f"{ANNOUNCING} and not ok")
        assert "the clock was set back" in row.detail
        assert row.next_command.startswith("select after_hours.end_stuck_loops();")
        db.execute("set role after_hours_relay")
        wait(db, "select from after_hours.relay_beat('n', 'live', 'notify', 0, null, now()) where wants_rescue")
        db.execute("select after_hours.relay_rescue()")
        db.execute("reset role")
        assert db.execute(told).fetchall()
        assert [row.pid for row in db.execute(LOOPS).fetchall()] == [waiting], "no other loop is ended"
        session = start(db, 1.5)
        wait(db, f"select from after_hours.events where session_id = '{session}' and type like '%expired'")
        wait(db, f"{ANNOUNCING} and ok")  # announcing continues by the new clock


def test_behind_the_next_loop_is_as_good_as_ever(clocked: tuple[Instance, Clock]) -> None:
    instance, clock = clocked
    clock.set(-3600)
    with instance.connect() as db, looping(instance, db):
        session = start(db, 1.5)
        late = (
            "select extract(epoch from emitted_at - due_at)::float as late from after_hours.events"
            f" where session_id = '{session}' and type = 'after_hours:session_expired'"
        )
        assert 0 <= wait(db, late).late < 2
        wait(db, f"{ANNOUNCING} and ok")  # the heartbeat is written by the new clock
        db.execute("update after_hours.settings set announce_since = clock_timestamp() + interval '1 hour'")
        wait(db, f"{ANNOUNCING} and detail like '%announce_since lies ahead%'")
