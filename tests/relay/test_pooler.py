"""Behind PgBouncer as its package configures it: by session all is as without it, by transaction the relay polls."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import httpx
import psycopg
import pytest
from pydantic import SecretStr

from relay.check import check_host
from relay.database.connect import KEEPALIVES, REFUSED_AT_START
from relay.dsn import read_dsn
from relay.settings import Settings
from tests.conftest import free_port
from tests.helpers import SECRET, find_tool, open_to_others, wait_until
from tests.relay.conftest import StartRelay, cursors, expire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.conftest import Connection, Instance

    Pooler = Callable[[str], AbstractContextManager[str]]

STOCK = Path("/etc/pgbouncer/pgbouncer.ini")


@pytest.fixture
def pooler(instance: Instance, tmp_path: Path) -> Pooler:
    """Start a PgBouncer in front of the instance, by session (as it comes) or by transaction. Gives its address."""
    pgbouncer = find_tool("pgbouncer")
    where = instance.dsn().split("?")[1].replace("&", " ")
    open_to_others(tmp_path)

    @contextmanager
    def start(mode: str) -> Iterator[str]:
        port = free_port()
        own = {  # where it listens and writes, who may log in, which database; all else is the package's file
            "listen_port": port, "unix_socket_dir": "", "logfile": "", "pidfile": "", "auth_file": tmp_path / "users",
        }  # fmt: skip
        if mode != "session":
            own["pool_mode"] = mode
        text = STOCK.read_text()
        for name, value in own.items():
            text = re.sub(rf"^;*{name} *=.*$", f"{name} = {value}", text, count=1, flags=re.M)
        database = f"[databases]\nafter_hours = {where} dbname=after_hours user=after_hours_relay"
        (tmp_path / "pgbouncer.ini").write_text(text.replace("[databases]", database, 1))
        (tmp_path / "users").write_text('"after_hours_relay" "night"\n')
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        with subprocess.Popen(
            [*as_user, pgbouncer, tmp_path / "pgbouncer.ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                dsn = f"postgresql://after_hours_relay:night@127.0.0.1:{port}/after_hours"
                wait_for_answer(dsn)
                yield dsn
            finally:
                process.terminate()

    return start


def wait_for_answer(dsn: str) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError:
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return


def traces(dsn: str) -> set[str]:
    """What a session has left behind on the backends that the pooler hands on."""
    found = set()
    for _ in range(10):
        with psycopg.connect(dsn, prepare_threshold=None) as connection:
            rows = connection.execute(
                "select 'prepared ' || statement from pg_prepared_statements"
                " union all select 'listens on ' || pg_listening_channels()"
                " union all select name || ' = ' || setting from pg_settings where source = 'session'"
                " and name in ('lock_timeout', 'search_path', 'tcp_keepalives_idle')"
            ).fetchall()
            found |= {row[0] for row in rows}
    return found


async def checked(dsn: str) -> list[str]:
    settings = Settings(dsn=SecretStr(dsn), jwt_secret=SecretStr(SECRET))
    return [line for _, line in await check_host(read_dsn(dsn)[0], settings)]


async def test_the_stock_pooler_refuses_what_the_relay_asks_for(pooler: Pooler) -> None:
    with pooler("session") as dsn:
        for settings in (KEEPALIVES, {"options": "-c lock_timeout=7s"}):
            with pytest.raises(REFUSED_AT_START, match="unsupported startup parameter"):
                await asyncpg.connect(dsn, server_settings=settings)


async def test_behind_a_session_pooler_the_relay_receives_notify(
    start_relay: StartRelay, pooler: Pooler, db: Connection, user: UUID
) -> None:
    with pooler("session") as dsn:
        dsn += "?options=-c%20lock_timeout%3D7s%20--search-path%3Dafter_hours,public&application_name=night%20relay"
        relay = await start_relay(dsn=dsn)
        async with relay.peer(user) as peer:
            expire(db, user)
            await peer.until(lambda it: it.events)
        session = relay.relay.listener._session
        assert session is not None
        async with session._calls:
            assert await session._calling.fetchval("show lock_timeout") == "7s"
            assert await session._calling.fetchval("show search_path") == "after_hours,public"
        names = db.execute("select distinct application_name from pg_stat_activity where usename = 'after_hours_relay'")
        assert names.fetchall() == [("night relay",)]
        assert "a primary, receives NOTIFY" in " ".join(await checked(dsn))
        await relay.stop()


async def test_behind_a_transaction_pooler_the_relay_polls_and_reports_it(
    start_relay: StartRelay, pooler: Pooler, db: Connection, user: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    with pooler("transaction") as plain:
        dsn = plain + "?options=-c%20lock_timeout%3D7s"
        relay = await start_relay(dsn=dsn, live=False)
        await wait_until(lambda: relay.relay.state.mode == "polling" and relay.relay.state.name == "live")
        assert relay.relay.state.reason.startswith("polling every second: a transaction pooler is in between")
        async with httpx.AsyncClient() as client:
            ready = await client.get(relay.http("/readyz", admin=True))
            assert (ready.status_code, ready.json()["mode"]) == (200, "polling")
            assert "after_hours_relay_polling 1.0" in (await client.get(relay.http("/metrics", admin=True))).text
        async with relay.peer(user) as peer:
            for count in range(1, 4):
                started = time.monotonic()
                expire(db, user)
                await peer.until(lambda it, count=count: len(it.events) == count)  # type: ignore[misc]
                assert time.monotonic() - started < 3
            assert [event["cursor"] for event in peer.events] == cursors(db)
        connects = relay.relay.metrics.connects._value.get()
        await wait_until(lambda: db.execute("select mode from after_hours.relays").fetchall() == [("polling",)])
        assert relay.relay.metrics.connects._value.get() == connects, "the connection is not replaced"
        session = relay.relay.listener._session
        assert session is not None
        shown = await session._fetch(session._listening, lambda rows: rows[0][0], "show lock_timeout")
        assert shown == "7s", "set in each transaction"
        assert "polls every second (a transaction pooler is in between)" in " ".join(await checked(dsn))
        assert await relay.relay.listener.status()
        await relay.stop()
        assert traces(plain) == set()
        told = [record.message for record in caplog.records if "transaction pooler" in record.message]
        assert len(told) == 2, "once by the relay, once by check"


async def test_a_busy_pooler_is_recognised(start_relay: StartRelay, pooler: Pooler, db: Connection, user: UUID) -> None:
    """Other clients take the backends meanwhile, so that two connections need not meet on one."""
    with pooler("transaction") as dsn:
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(keep_busy(dsn)) for _ in range(12)]
            relay = await start_relay(dsn=dsn, live=False)
            await wait_until(lambda: relay.relay.state.mode == "polling" and relay.relay.state.name == "live")
            async with relay.peer(user) as peer:
                expire(db, user)
                await peer.until(lambda it: it.events)
            for each in others:
                each.cancel()
        assert relay.relay.state.mode == "polling"
        await relay.stop()


async def keep_busy(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        with suppress(asyncio.CancelledError):
            while True:
                await connection.execute("select pg_sleep(random() * 0.01)")
