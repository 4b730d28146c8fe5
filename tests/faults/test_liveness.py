"""A network that drops everything: detected within five seconds, recovered within one; every state as shown by /readyz."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
import pytest

from tests.faults.testbed import Lane, Proxy, children_of
from tests.helpers import make_token, wait_until
from tests.relay.conftest import Running, StartRelay, cursors, expire, relay, start_relay, user

if TYPE_CHECKING:
    from tests.conftest import Connection, Instance

__all__ = ["relay", "start_relay", "user"]  # fixtures


@dataclass
class Hole:
    """A way to PostgreSQL that can swallow everything."""

    dsn: str
    swallow: Callable[[bool], None]


@pytest.fixture
async def hole(instance: Instance) -> AsyncIterator[Hole]:
    """Between the relay and PostgreSQL: a cable that can be cut; where that is not allowed, a proxy that can hold its breath."""
    with ExitStack() as stack:
        lane = None
        with suppress(OSError, subprocess.CalledProcessError):
            lane = stack.enter_context(Lane())
        proxy = Proxy()
        where = dict(part.split("=") for part in instance.dsn().split("?")[1].split("&"))
        await proxy.start(f"{where['host']}/.s.PGSQL.{where['port']}", listening=lane.listen() if lane else None)
        dsn = f"postgresql://after_hours_relay@{proxy.host}:{proxy.port}/after_hours"
        made = Hole(dsn, lane.cut if lane else proxy.swallow)
        yield made
        made.swallow(False)
        await proxy.stop()


async def readyz(relay: Running) -> tuple[int, str]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(relay.http("/readyz", admin=True))
    return answer.status_code, answer.json()["state"]


async def test_a_black_hole_is_noticed_in_5_s_and_healed_in_1_s(
    start_relay: StartRelay, hole: Hole, db: Connection, user: UUID
) -> None:
    relay = await start_relay(dsn=hole.dsn)
    async with relay.peer(user) as peer:
        assert await readyz(relay) == (200, "live")
        hole.swallow(True)
        started = time.monotonic()
        await wait_until(lambda: relay.relay.state.name != "live")
        assert time.monotonic() - started < 5
        await peer.until(lambda it: it.of("stale"))
        assert await readyz(relay) == (503, "stale")
        expire(db, user, uuid4(), user)
        await asyncio.sleep(max(0, 8 - (time.monotonic() - started)))  # some attempts to connect have failed by then
        assert not peer.events
        hole.swallow(False)
        healed = time.monotonic()
        await peer.until(lambda it: it.of("live"))
        assert time.monotonic() - healed < 1.5, (
            "an attempt to connect takes up to 1 s, the pause between two up to 0.2 s"
        )
        assert [event["cursor"] for event in peer.events] == [cursors(db)[0], cursors(db)[2]]
        assert peer.of("live")[0]["replayed"] == 2
        assert not peer.of("reset")


async def test_who_joins_during_a_black_hole_is_told_to_try_later(
    start_relay: StartRelay, hole: Hole, db: Connection, user: UUID
) -> None:
    relay = await start_relay(dsn=hole.dsn)
    hole.swallow(True)
    async with relay.peer(user, additional_headers={}) as peer:
        await peer.say(type="auth", token=make_token(user))
        await peer.until(lambda it: it.closed)
        assert peer.closed
        assert peer.closed[0] == 1013
        assert peer.closed[1]["retryAfterMs"] >= 500
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.get(relay.http("/events"), headers={"Authorization": f"Bearer {make_token(user)}"})
        assert answer.status_code == 503
        assert answer.headers["retry-after"]


def processes_of(instance: Instance) -> list[int]:
    """The server's processes."""
    postmaster = int((instance.home / "cluster" / "data" / "postmaster.pid").read_text().split()[0])
    return [postmaster, *children_of(postmaster)]


def send(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # a worker may have ended meanwhile
            os.kill(pid, number)


async def test_a_frozen_server_is_noticed_and_followed_again(
    start_relay: StartRelay, instance: Instance, db: Connection, user: UUID
) -> None:
    """Its kernel still accepts connections, its processes answer none: what a hung disk or a stopped machine looks like."""
    relay = await start_relay()
    everything = processes_of(instance)
    async with relay.peer(user) as peer:
        expire(db, user, announce=False)
        try:
            send(everything, signal.SIGSTOP)
            started = time.monotonic()
            await wait_until(lambda: relay.relay.state.name != "live")
            assert time.monotonic() - started < 5
            await peer.until(lambda it: it.of("stale"))
            assert await readyz(relay) == (503, "stale")
        finally:
            send(everything, signal.SIGCONT)
        await peer.until(lambda it: it.of("live"))
        db.execute("select after_hours.announce_due()")
        await peer.until(lambda it: it.events)
        assert await readyz(relay) == (200, "live")
