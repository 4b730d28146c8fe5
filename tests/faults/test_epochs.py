"""P3 over runs of a server: no cursor is accepted that hides an event, and a plain restart resets no client."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from tests.conftest import reset
from tests.helpers import free_port, poll_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Connection, Instance

USER = "0d0d0d0d-0000-4000-8000-00000000000d"


class Server:
    """One private server, to be crashed, copied and rolled back. Events come by hand: no job runs."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.data = (instance.home / "cluster").resolve() / "data"
        with instance.connect() as db:
            row = db.execute("select setting from pg_config() where name = 'BINDIR'").fetchone()
        assert row is not None
        self.bin = Path(row.setting)

    def tool(self, *command: object) -> None:
        """Run a program of the server as the user the server runs as."""
        become = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run([*become, *map(str, command)], cwd="/", check=True, capture_output=True, timeout=60)

    def stop(self, mode: str) -> None:
        self.tool(self.bin / "pg_ctl", "stop", "-w", "-m", mode, "-D", self.data)

    def start(self) -> None:
        self.instance.dev("cluster")

    def connect(self) -> Connection:
        return self.instance.connect()

    @contextmanager
    def standby(self) -> Iterator[Standby]:
        """A copy that streams from it once it is started; gone afterwards."""
        made = Standby(self)
        self.tool("rm", "-rf", made.data)
        backup = ("-D", made.data, "-h", made.sockets, "-p", made.primary_port, "-U", "postgres", "-R", "-X", "stream")
        self.tool(self.bin / "pg_basebackup", *backup, "-c", "fast")
        try:
            yield made
        finally:
            with suppress(subprocess.CalledProcessError):
                made.stop("immediate")
            self.tool("rm", "-rf", made.data)


class Standby:
    """A second server beside the first, on a port of its own."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.data = server.data.with_name("standby")
        where = dict(part.split("=") for part in server.instance.dsn().split("?")[1].split("&"))
        self.sockets, self.primary_port, self.port = where["host"], where["port"], free_port()

    def start(self) -> None:
        options = f"-p {self.port} -k {self.sockets} -c cron.host={self.sockets}"
        command = ("start", "-w", "-D", self.data, "-o", options, "-l", self.data / "log")
        self._server.tool(self._server.bin / "pg_ctl", *command)

    def stop(self, mode: str) -> None:
        self._server.tool(self._server.bin / "pg_ctl", "stop", "-w", "-m", mode, "-D", self.data)

    def connect(self) -> Connection:
        dsn = self._server.instance.dsn().replace(f"port={self.primary_port}", f"port={self.port}")
        return psycopg.connect(dsn, autocommit=True, row_factory=namedtuple_row)


@pytest.fixture(scope="module")
def server(make_instance: Callable[..., Instance]) -> Server:
    made = Server(make_instance("cluster"))
    with made.connect() as db:
        db.execute("select after_hours.uninstall_jobs()")
    return made


@pytest.fixture(autouse=True)
def clean(server: Server) -> None:
    server.start()
    with server.connect() as db:
        db.execute("select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'call after_hours%'")
        reset(db)
    return


def emit(db: Connection, count: int = 1) -> list[str]:
    """So many ends of one user's sessions; the cursors of their frames."""
    last = db.execute("select coalesce(max(id), 0) as id from after_hours.events").fetchone()
    assert last is not None
    for _ in range(count):
        db.execute(
            "insert into public.after_hours_sessions (user_id, started_at, expires_at) "
            "values (%s, now() - interval '1 hour', clock_timestamp())",
            (USER,),
        )
        db.execute("select after_hours.announce_due()")
    rows = db.execute("select epoch || '-' || id as c from after_hours.events where id > %s order by id", (last.id,))
    return [row.c for row in rows.fetchall()]


def resume(db: Connection, cursor: str) -> Any:
    """The answer to a client with this cursor: replayed with how many events, or reset."""
    row = db.execute(
        "select start, coalesce(cardinality(ids), 0) as n "
        "from after_hours.relay_attach(%s::uuid[], %s::text[], array[now()])",
        ([USER], [cursor]),
    ).fetchone()
    assert row is not None
    return row.start, row.n


def epochs(db: Connection) -> int:
    return len(db.execute("select from after_hours.epochs").fetchall())


def test_plain_restart_resets_nobody(server: Server) -> None:
    with server.connect() as db:
        first, second = emit(db, 2)
    server.stop("fast")
    server.start()
    with server.connect() as db:
        assert resume(db, first) == ("replayed", 1), "before the new epoch is opened"
        assert resume(db, second) == ("replayed", 0)
        emit(db)
        assert epochs(db) == 2
        assert resume(db, first) == ("replayed", 2)
        assert resume(db, second) == ("replayed", 1)


def test_crash_opens_an_epoch_though_the_start_time_stays(server: Server) -> None:
    with server.connect() as db:
        (first,) = emit(db)
        os.kill(db.info.backend_pid, 9)  # the postmaster restarts everything, within its own life
    time.sleep(0.5)
    for _ in range(100):
        try:
            db = server.connect()
            break
        except psycopg.OperationalError:
            time.sleep(0.1)
    with db:
        assert resume(db, first) == ("replayed", 0)
        (second,) = emit(db)
        assert second.split("-")[0] != first.split("-")[0]
        assert resume(db, first) == ("replayed", 1)


def test_an_event_once_notified_survives_a_crash_even_if_commits_are_asynchronous(server: Server) -> None:
    with server.connect() as db:
        db.execute("alter system set synchronous_commit = off")
        db.execute("alter system set wal_writer_delay = '10s'")
        db.execute("select pg_reload_conf()")
    try:
        with server.connect() as db, server.connect() as listener:
            listener.execute("listen after_hours_events")
            (cursor,) = emit(db)
            heard = list(listener.notifies(timeout=5, stop_after=1))
            assert len(heard) == 1
            server.stop("immediate")
        server.start()
        with server.connect() as db:
            assert resume(db, cursor) == ("replayed", 0), "the event is still there"
            assert emit(db, 1)[0] != cursor
    finally:
        with server.connect() as db:
            db.execute("alter system reset synchronous_commit")
            db.execute("alter system reset wal_writer_delay")
            db.execute("select pg_reload_conf()")


def test_storage_rolled_back(server: Server) -> None:
    """Ids are issued again; the cursors of the lost run get reset."""
    with server.connect() as db:
        (kept,) = emit(db)
    server.stop("fast")
    copy = server.data.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    server.tool("cp", "-a", server.data, copy)
    server.start()
    with server.connect() as db:
        lost = emit(db, 3)
    server.stop("fast")
    server.tool("rm", "-rf", server.data)
    server.tool("mv", copy, server.data)
    server.start()
    with server.connect() as db:
        assert [resume(db, cursor)[0] for cursor in lost] == ["reset"] * 3, "before the new epoch is opened"
        again = emit(db, 3)
        assert {int(c.split("-")[1]) for c in again} & {int(c.split("-")[1]) for c in lost}, "ids were issued again"
        assert [resume(db, cursor)[0] for cursor in lost] == ["reset"] * 3
        assert resume(db, kept) == ("replayed", 3)
        assert resume(db, again[0]) == ("replayed", 2)


def test_promoted_standby(server: Server) -> None:
    """An asynchronous standby that misses the last events is promoted: their cursors are refused, others are good."""
    with server.connect() as db:
        (kept,) = emit(db)
    with server.standby() as standby:
        standby.start()
        with standby.connect() as second:
            poll_until(lambda: second.execute("select from after_hours.events").fetchall(), 30, interval=0.1)
        standby.stop("fast")
        with server.connect() as db:
            lost = emit(db, 2)
        server.stop("immediate")
        standby.start()
        with standby.connect() as second:
            assert [resume(second, cursor)[0] for cursor in lost] == ["reset", "reset"], "read from the standby"
            second.execute("select pg_promote()")
            assert [resume(second, cursor)[0] for cursor in lost] == ["reset", "reset"], "its epoch is not open yet"
            assert resume(second, kept) == ("replayed", 0)
            again = emit(second, 3)
            assert again[0].split("-")[0] != kept.split("-")[0]
            assert [resume(second, cursor)[0] for cursor in lost] == ["reset", "reset"]
            assert resume(second, kept) == ("replayed", 3)
