"""Behind PgBouncer in transaction mode LISTEN has no effect: the relay polls, reports it, and delivers within a second."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from tests.conftest import free_port
from tests.helpers import wait_until
from tests.relay.conftest import StartRelay, cursors, expire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Connection, Instance

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")


@pytest.fixture
def pooler(instance: Instance, tmp_path: Path) -> Iterator[str]:
    """The DSN of a PgBouncer in front of the instance."""
    if PGBOUNCER is None:
        pytest.skip("needs pgbouncer: apt-get install pgbouncer")
    port = free_port()
    where = instance.dsn().split("?")[1].replace("&", " ")
    (tmp_path / "pgbouncer.ini").write_text(
        f"[databases]\nafter_hours = {where} dbname=after_hours user=after_hours_relay\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 3\nignore_startup_parameters = extra_float_digits,"
        "tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count\n"
    )
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    for path in (*tmp_path.parents[:3], tmp_path):
        path.chmod(0o755)
    with subprocess.Popen(
        [*as_user, PGBOUNCER, tmp_path / "pgbouncer.ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        yield f"postgresql://after_hours_relay@127.0.0.1:{port}/after_hours"
        process.terminate()


async def test_behind_a_transaction_pooler_the_relay_polls_and_reports_it(
    start_relay: StartRelay, pooler: str, db: Connection, user: UUID
) -> None:
    relay = await start_relay(dsn=pooler, live=False)
    await wait_until(lambda: relay.relay.state.mode == "polling" and relay.relay.state.name == "live", 10)
    assert "pooler" in relay.relay.state.reason  # a guess: a pooler and a lost NOTIFY look the same
    async with relay.peer(user) as peer:
        for count in range(1, 4):
            started = time.monotonic()
            expire(db, user)
            await peer.until(lambda it, count=count: len(it.events) == count, 2)  # type: ignore[misc]
            assert time.monotonic() - started < 1.5
        assert [event["cursor"] for event in peer.events] == cursors(db)
        assert relay.relay.state.mode == "polling"
    connects = relay.relay.metrics.connects._value.get()
    await wait_until(lambda: db.execute("select mode from after_hours.relays").fetchall() == [("polling",)], 3)
    assert relay.relay.metrics.connects._value.get() == connects, "the connection is not replaced"
