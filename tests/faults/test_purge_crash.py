"""P6 when the purge is killed: its backend by SIGKILL before each step of a batch, then the whole server."""

from __future__ import annotations

import os
import re
import signal
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.helpers import poll_until
from tests.sql.purge_helpers import value

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection, Instance

ISOLATION = Path(__file__).resolve().parents[1] / "isolation"
STEPS = ("1", "2", "3", "4", "5a", "5b", "5c", "6", "7", "8")
BROKEN = re.compile(r"(HELD|SAVED|YOUNG) AND GONE|ORPHANS|HALF GONE|TOMBSTONE, BUT THERE")
BEFORE = "1: 3 there; 2: 3 there; 3: 3 there saved; 4: 3 there held; 5: 3 there held; 6: 3 there; 7: 3 there"
AFTER = (
    "1: 0 gone tombstone 3; 2: 0 gone tombstone 3; 3: 3 there saved; 4: 3 there held; 5: 3 there held; 6: 3 there; "
    "7: 3 there"
)


@pytest.fixture(scope="module")
def own(make_instance: Callable[..., Instance]) -> Instance:
    """An instance of our own to kill, whose purge can be stopped."""
    instance = make_instance("cluster")
    with instance.connect() as connection:
        connection.execute("select after_hours.uninstall_jobs()")
        connection.execute("update after_hours.settings set announce_since = '2000-01-01Z'")
        connection.execute((ISOLATION / "setup.sql").read_text())
    return instance


def up_again(instance: Instance) -> Connection:
    """A connection, as soon as the server has recovered."""

    def connect() -> Connection | None:
        with suppress(psycopg.OperationalError):
            return instance.connect()
        return None

    connection = poll_until(connect, what="the server comes back")
    assert connection is not None
    return connection


def stop_before(instance: Instance, step: str) -> tuple[int, Connection, threading.Thread]:
    """A purge that waits before a step of its first batch: its pid, who holds it there, and its thread."""
    control = instance.connect()
    control.execute("select test.reset()")
    control.execute("select pg_advisory_lock(4711, hashtext(%s))", (step,))
    purger = instance.connect("after_hours_jobs")
    pid = purger.info.backend_pid

    def call() -> None:
        with suppress(psycopg.OperationalError), closing(purger):
            purger.execute("CALL after_hours.purge('schedule')")

    thread = threading.Thread(target=call)
    thread.start()
    waiting = "select count(*) from pg_locks where pid = %s and locktype = 'advisory' and not granted"
    poll_until(lambda: value(control, waiting, pid), what=f"the purge reaches step {step}")
    return pid, control, thread


def finish(instance: Instance, thread: threading.Thread, *, from_scratch: bool) -> None:
    """After the crash nothing is half done, and the hourly catch-up does the rest."""
    thread.join(20)
    with up_again(instance) as eye:
        state = value(eye, "select test.state()")
        assert not BROKEN.search(state), state
        if from_scratch:
            assert state == BEFORE
        assert value(eye, "select status from after_hours.purge_runs order by id desc limit 1") == "running"
        eye.execute("CALL after_hours.purge('catch_up')")
        assert value(eye, "select test.state()") == AFTER
        runs = eye.execute("select status from after_hours.purge_runs order by id").fetchall()
        assert [row.status for row in runs] == ["abandoned", "succeeded"]
        assert value(eye, "select bool_and(ok) from after_hours.verify_evidence()")


@pytest.mark.parametrize("step", STEPS)
def test_p6_the_backend_is_killed(own: Instance, step: str) -> None:
    pid, control, thread = stop_before(own, step)
    os.kill(pid, signal.SIGKILL)
    control.close()
    finish(own, thread, from_scratch=step != "8")


@pytest.mark.parametrize("step", ["5b", "7"])
def test_p6_the_server_is_killed(own: Instance, step: str) -> None:
    pid, control, thread = stop_before(own, step)
    directory = Path(value(control, "show data_directory"))
    os.kill(int((directory / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    with suppress(ProcessLookupError):  # an orphan goes on for a while, or has ended already
        os.kill(pid, signal.SIGKILL)
    control.close()
    thread.join(20)
    own.dev("cluster")
    finish(own, thread, from_scratch=True)


def test_p6_terminated_between_batches(own: Instance) -> None:
    """pg_terminate_backend in the middle of a run: committed batches stay, and the next run continues after them."""
    pid, control, thread = stop_before(own, "8")
    with up_again(own) as eye:
        eye.execute("select pg_terminate_backend(%s, 5000)", (pid,))
    control.close()
    finish(own, thread, from_scratch=False)
