"""The Python client against a relay that says what the test says, and against a real one that is drained."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from relay.client import Client, Stopped
from tests.relay.conftest import StartRelay, eventually, expire, make_token

if TYPE_CHECKING:
    from uuid import UUID

    from tests.conftest import Connection

Scene = Callable[[ServerConnection], Awaitable[None]]
EXPIRED = "after_hours:session_expired"


def hello(start: str = "fresh", cursor: str = "aaaaaaaa-1") -> str:
    return json.dumps({"type": "hello", "start": start, "cursor": cursor, "node": "one", "sessions": []})


def event(number: int, id_: str | None = None) -> str:
    return json.dumps({"type": EXPIRED, "id": id_ or f"e{number}", "cursor": f"aaaaaaaa-{number}"})


class Stage:
    """A relay whose connections are scenes, one after the other; the last is played again and again."""

    def __init__(self, *scenes: Scene) -> None:
        self.connections: list[ServerConnection] = []
        self._scenes = scenes

    async def play(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        await self._scenes[min(len(self.connections), len(self._scenes)) - 1](connection)

    def after(self, number: int) -> str:
        """What connection `number` presented."""
        request = self.connections[number].request
        assert request is not None
        return request.path

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[tuple[Client, list[dict[str, Any]]]]:
        """A client of this stage, and what it yields."""
        server: Server
        async with serve(self.play, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            client = Client(f"ws://127.0.0.1:{port}/ws", lambda: "token", **options)
            got: list[dict[str, Any]] = []

            async def follow() -> None:
                async for frame in client.frames():
                    got.append(frame)

            following = asyncio.create_task(follow())
            try:
                yield client, got
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


def says(*frames: str, close: int | None = None, retry_ms: int | None = None) -> Scene:
    async def scene(connection: ServerConnection) -> None:
        for frame in frames:
            await connection.send(frame)
        if close is not None:
            await connection.close(close, "" if retry_ms is None else json.dumps({"retryAfterMs": retry_ms}))
        await connection.wait_closed()

    return scene


async def test_the_cursor_is_moved_when_the_frame_has_been_handled() -> None:
    async with serve(Stage(says(hello(), event(2), event(3))).play, "127.0.0.1", 0) as server:
        client = Client(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws", lambda: "token")
        seen = []
        async for frame in client.frames():
            seen.append((frame["cursor"], client.cursor))
            if len(seen) == 2:
                break
    assert seen == [("aaaaaaaa-2", "aaaaaaaa-1"), ("aaaaaaaa-3", "aaaaaaaa-2")]


async def test_it_comes_back_with_its_cursor_and_drops_what_it_has_seen() -> None:
    stage = Stage(
        says(hello(), event(2), close=1012, retry_ms=10),
        says(hello("replayed", "aaaaaaaa-2"), event(2), event(3, "e2"), event(4)),
    )
    async with stage.client() as (client, got):
        await eventually(lambda: len(got) == 2)
        assert "after=aaaaaaaa-2" in stage.after(1)
        assert [frame["id"] for frame in got] == ["e2", "e4"]
        await eventually(lambda: client.cursor == "aaaaaaaa-4")


@pytest.mark.parametrize("code", [1001, 1011, 1013, 4000, 4008, 4029, 4403, 4408])
async def test_it_comes_back_when_it_is_told(code: int) -> None:
    stage = Stage(says(hello(), close=code, retry_ms=20), says(hello()))
    async with stage.client():
        await eventually(lambda: len(stage.connections) == 2)


@pytest.mark.parametrize(("code", "connections"), [(4400, 1), (4401, 2)])
async def test_it_stops_where_coming_back_makes_no_sense(code: int, connections: int) -> None:
    stage = Stage(says(close=code, retry_ms=0))
    async with serve(stage.play, "127.0.0.1", 0) as server:
        client = Client(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws", lambda: "token")
        with pytest.raises(Stopped, match=str(code)):
            await anext(client.frames())
    assert len(stage.connections) == connections


async def test_a_token_that_runs_out_is_replaced() -> None:
    heard: list[dict[str, Any]] = []

    async def scene(connection: ServerConnection) -> None:
        await connection.send(hello())
        await connection.send('{"type":"auth_expiring","inSeconds":60}')
        heard.append(json.loads(await connection.recv()))

    async with Stage(scene).client():
        await eventually(lambda: bool(heard))
    assert heard[0] == {"type": "auth", "token": "token"}


async def test_drained_by_a_real_relay_it_changes_over_before_the_old_one_closes(
    start_relay: StartRelay, db: Connection, user: UUID
) -> None:
    old, new = await start_relay(drain_seconds=5), await start_relay()
    client = Client(old.url, lambda: make_token(user), all_frames=True)
    got: list[dict[str, Any]] = []

    async def follow() -> None:
        async for frame in client.frames():
            got.append(frame)
            if frame["type"] == "drain":
                client._url = new.url  # what a load balancer does

    following = asyncio.create_task(follow())
    await eventually(lambda: bool(got))
    ending = asyncio.create_task(old.stop())
    await eventually(lambda: any(frame["type"] == "drain" for frame in got))
    expire(db, user)
    await eventually(lambda: client.node == "test-1")
    expire(db, user)
    await eventually(lambda: sum(":" in frame["type"] for frame in got) == 2)
    await ending
    assert old.relay.metrics.closed.labels("4000")._value.get() == 0, "it had left by itself"
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
