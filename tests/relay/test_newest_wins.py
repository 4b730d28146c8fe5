"""At the per-user limit the newest connection wins: those that have silently gone keep no user out, and none storm."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from websockets.asyncio.client import connect

from relay.client import Client
from relay.public.limits import QUESTION_BURST, QUESTION_RATE
from relay.websocket.kinds import KINDS
from tests.helpers import wait_until
from tests.relay.conftest import Peer, expire, make_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from tests.conftest import Connection
    from tests.relay.conftest import StartRelay

LIMIT = 20


class SilentProxy:
    """A TCP proxy that at a word forwards nothing more and closes nothing, like a network that a phone has left."""

    def __init__(self) -> None:
        self.silence = asyncio.Event()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def before(self, port: int) -> AsyncIterator[SilentProxy]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            self._writers += [writer, back]
            for source, target in ((reader, back), (there, writer)):
                self._tasks.add(asyncio.create_task(self._pump(source, target)))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                data = await source.read(4096)
                if self.silence.is_set():
                    return
                if not data:
                    target.close()
                    return
                target.write(data)


@pytest.mark.parametrize("sockets", list(KINDS))
async def test_ghosts_behind_a_silent_proxy_keep_no_user_out(
    start_relay: StartRelay, db: Connection, user: UUID, sockets: str
) -> None:
    """CASES 36: from Wi-Fi to LTE with 20 tabs open, the user's new connections got 4029 for 41 s."""
    relay = await start_relay(sockets=sockets, max_sockets_per_user=LIMIT)
    assert relay.relay.bind
    async with AsyncExitStack() as stack, SilentProxy().before(relay.relay.bind[1]) as proxy:
        stranger = await stack.enter_async_context(relay.peer(uuid4()))
        url = f"ws://127.0.0.1:{proxy.port}/ws"
        ghosts = [await stack.enter_async_context(through(url, user)) for _ in range(LIMIT)]
        assert len(relay.relay.hub.users[user]) == LIMIT
        proxy.silence.set()
        tabs = []
        for number in range(1, LIMIT + 1):
            tab = await stack.enter_async_context(relay.peer(user))
            assert tab.of("hello"), f"tab {number}: {tab.closed}"
            assert len(relay.relay.hub.users[user]) == LIMIT
            tabs.append(tab)
        expire(db, user)
        for tab in tabs:
            await tab.until(lambda it: it.events)
            assert tab.is_open
        assert not any(ghost.events for ghost in ghosts)
        assert stranger.is_open
        # the connections of the ghosts end too: they hold a place of their address
        await wait_until(lambda: len(relay.relay.public.server_state.connections) == LIMIT + 1, seconds=15)


@asynccontextmanager
async def through(url: str, user: UUID) -> AsyncIterator[Peer]:
    """A client that reaches the relay at another address."""
    async with connect(
        url, additional_headers={"Authorization": f"Bearer {make_token(user)}"}, compression=None, ping_interval=None
    ) as connection:
        peer = Peer(connection)
        reading = asyncio.create_task(peer.read())
        try:
            await peer.until(lambda it: it.of("hello"))
            yield peer
        finally:
            connection.transport.abort()
            await reading


async def test_the_oldest_is_told_to_come_back_later(start_relay: StartRelay, user: UUID) -> None:
    relay = await start_relay(max_sockets_per_user=2)
    async with relay.peer(user) as first, relay.peer(user) as second, relay.peer(user) as third:
        await first.until(lambda it: it.closed)
        assert first.closed
        assert first.closed[0] == 4029
        assert 20_000 <= first.closed[1]["retryAfterMs"] <= 60_000
        assert first.closed[1]["reason"] == "newer_connection"
        assert (second.is_open, third.is_open) == (True, True)
        assert relay.relay.metrics.closed.labels("4029")._value.get() == 1
    await wait_until(lambda: relay.relay.hub.count == 0)


async def test_a_full_relay_takes_a_user_for_an_older_connection_of_the_same(
    start_relay: StartRelay, user: UUID
) -> None:
    relay = await start_relay(max_sockets=2, max_sockets_per_user=1)
    async with relay.peer(uuid4()) as other, relay.peer(user) as old:
        async with relay.peer(uuid4()) as stranger:
            assert stranger.closed
            assert stranger.closed[0] == 4029
        async with relay.peer(user) as new:
            await old.until(lambda it: it.closed)
            assert (new.is_open, other.is_open, relay.relay.hub.count) == (True, True, 2)


async def test_tabs_that_displace_one_another_do_not_storm(
    start_relay: StartRelay, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clients where one may be: each comes back when it was told to, not at once."""
    monkeypatch.setattr("relay.public.limits.DISPLACED_MS", (400, 500))
    relay = await start_relay(max_sockets_per_user=1)
    hellos = 0

    async def tab() -> None:
        nonlocal hellos
        async for frame in Client(relay.url, lambda: make_token(user), all_frames=True).frames():
            hellos += frame["type"] == "hello"

    started = time.monotonic()
    tabs = [asyncio.create_task(tab()) for _ in range(2)]
    await asyncio.sleep(2)
    for one in tabs:
        one.cancel()
    await asyncio.gather(*tabs, return_exceptions=True)
    assert 2 <= hellos <= 2 + (time.monotonic() - started) / 0.4 * 2


async def test_a_client_that_comes_back_at_once_is_slowed_down(start_relay: StartRelay, user: UUID) -> None:
    """Whatever a client makes of retryAfterMs: it displaces no faster than its user may ask."""
    relay = await start_relay(max_sockets_per_user=1)
    hub, started = relay.relay.hub, time.monotonic()
    async with relay.peer(uuid4()) as other:
        refused = 0
        for _ in range(int(QUESTION_BURST) + 40):
            async with relay.peer(user) as peer:
                refused += peer.closed is not None
        seconds = time.monotonic() - started
        assert hub.left <= QUESTION_BURST + QUESTION_RATE * seconds + 1
        assert refused >= 40 - QUESTION_RATE * seconds - 1
        assert other.is_open
