"""P1, P2, P10 when the server's clock jumps: libfaketime stands between PostgreSQL, pg_cron in it, and the time."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Connection, Instance

LOOPS = "select pid from pg_stat_activity where query ilike 'call after_hours.announce_loop%' and state <> 'idle'"
ANNOUNCING = "select ok, detail from after_hours.health where check_name = 'announcing'"
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class Clock:
    """The server's clock, so many seconds away from the machine's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0)

    def set(self, seconds: int) -> None:
        self.path.write_text(f"{seconds:+d}\n")


@pytest.fixture(scope="module")
def clocked(
    make_instance: Callable[..., Instance], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Instance, Clock]]:
    """An instance whose server was started under libfaketime."""
    if not FAKETIME:
        pytest.skip("needs libfaketime: apt-get install libfaketime")
    instance = make_instance("cluster")
    directory = tmp_path_factory.mktemp("clock")
    for path in (*directory.parents[:2], directory):
        path.chmod(0o755)
    clock = Clock(directory / "offset")
    data = (instance.home / "cluster" / "data").resolve()
    control = [str(max(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))), "-D", str(data), "-w"]
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


@pytest.fixture
def db(clocked: tuple[Instance, Clock]) -> Iterator[Connection]:
    """With one loop, started as pg_cron would at the next minute, which is not waited for."""
    instance, clock = clocked
    clock.set(0)
    with instance.connect() as connection, instance.connect("after_hours_jobs") as job:

        def run() -> None:
            with suppress(psycopg.OperationalError):
                job.execute("call after_hours.announce_loop('30.25 s')")

        thread = threading.Thread(target=run)
        thread.start()
        wait(connection, LOOPS, 5)
        yield connection
        job.cancel_safe()
        thread.join()


def wait(db: Connection, query: str, seconds: float) -> Any:
    """The first row of a query that has none at first."""
    end = time.monotonic() + seconds
    while not (rows := db.execute(query).fetchall()):
        assert time.monotonic() < end, f"nothing after {seconds} s: {query}"
        time.sleep(0.02)
    return rows[0]


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
    wait(db, f"select from after_hours.events where session_id = '{ended}'", 3)
    wait(db, f"select from after_hours.events where session_id = '{warned}'", 3)
    assert time.monotonic() - began < 1.5
    rows = db.execute("select type, session_id from after_hours.events order by id").fetchall()
    assert [tuple(row) for row in rows] == [
        ("after_hours:session_expired", ended), ("after_hours:session_expiring", warned),
    ]  # fmt: skip
    clocked[1].set(0)  # and back: what was told is not told again
    time.sleep(2)
    assert len(db.execute("select from after_hours.events").fetchall()) == 2


def test_behind_new_sessions_are_told_on_time_and_a_dead_scheduler_is_seen(
    clocked: tuple[Instance, Clock], db: Connection
) -> None:
    clocked[1].set(-3600)
    row = wait(db, ANNOUNCING, 1)
    assert not row.ok
    assert "announce_since lies ahead" in row.detail, "it was installed an hour from now"
    db.execute("update after_hours.settings set announce_since = clock_timestamp()")
    session = start(db, 1.5)
    row = wait(
        db,
        "select extract(epoch from emitted_at - due_at)::float as late from after_hours.events"
        f" where session_id = '{session}' and type = 'after_hours:session_expired'",
        4,
    )
    assert 0 <= row.late < 0.5
    assert wait(db, ANNOUNCING, 1).ok, "the heartbeat is written by the new clock"
    db.execute("select after_hours.pause_job('announce', clock_timestamp() + interval '1 hour', 'test')")
    db.execute("update after_hours.emitter set heartbeat_at = clock_timestamp() + interval '1 hour'")
    db.execute("select after_hours.resume_job('announce')")
    row = wait(db, ANNOUNCING, 1)
    assert not row.ok
    assert "the clock was set back" in row.detail
