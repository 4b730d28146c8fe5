"""A network that swallows everything: noticed within five seconds, healed within one; every state as /readyz tells it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
import pytest

from tests.faults.stage import Proxy
from tests.relay.conftest import Running, StartRelay, cursors, eventually, expire, make_token, relay, start_relay, user

if TYPE_CHECKING:
    from tests.conftest import Connection, Instance

__all__ = ["relay", "start_relay", "user"]  # fixtures


@pytest.fixture
async def proxy(instance: Instance) -> AsyncIterator[Proxy]:
    """Between the relay and PostgreSQL."""
    made = Proxy()
    where = dict(part.split("=") for part in instance.dsn().split("?")[1].split("&"))
    await made.start(f"{where['host']}/.s.PGSQL.{where['port']}")
    yield made
    made.swallow(False)
    await made.stop()


async def behind(start_relay: StartRelay, proxy: Proxy, **settings: object) -> Running:
    return await start_relay(dsn=f"postgresql://after_hours_relay@127.0.0.1:{proxy.port}/after_hours", **settings)


async def readyz(relay: Running) -> tuple[int, str]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(relay.http("/readyz", admin=True))
    return answer.status_code, answer.json()["state"]


@pytest.mark.parametrize("seconds", [6.5, 9.0])
async def test_a_black_hole_is_noticed_in_5_s_and_healed_in_1_s(
    start_relay: StartRelay, proxy: Proxy, db: Connection, user: UUID, seconds: float
) -> None:
    relay = await behind(start_relay, proxy)
    async with relay.peer(user) as peer:
        assert await readyz(relay) == (200, "live")
        proxy.swallow(True)
        started = time.monotonic()
        await eventually(lambda: relay.relay.listener.state != "live", 10)
        assert time.monotonic() - started < 5
        await peer.until(lambda it: it.of("stale"), 8)
        assert await readyz(relay) == (503, "stale")
        expire(db, user, uuid4(), user)
        await asyncio.sleep(max(0, seconds - (time.monotonic() - started)))
        assert not peer.events
        proxy.swallow(False)
        healed = time.monotonic()
        await peer.until(lambda it: it.of("live"), 5)
        assert time.monotonic() - healed < 1.2, "1 s, and a margin for a busy test machine"
        assert [event["cursor"] for event in peer.events] == [cursors(db)[0], cursors(db)[2]]
        assert peer.of("live")[0]["replayed"] == 2
        assert not peer.of("reset")


async def test_who_joins_during_a_black_hole_is_told_to_try_later(
    start_relay: StartRelay, proxy: Proxy, db: Connection, user: UUID
) -> None:
    relay = await behind(start_relay, proxy)
    proxy.swallow(True)
    async with relay.peer(user, additional_headers={}) as peer:
        await peer.say(type="auth", token=make_token(user))
        await peer.until(lambda it: it.closed, 8)
        assert peer.closed
        assert peer.closed[0] == 1013
        assert peer.closed[1]["retryAfterMs"] >= 500
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.get(relay.http("/events"), headers={"Authorization": f"Bearer {make_token(user)}"})
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
