"""The Python client with a scripted relay, and with a real one that drains."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidURI

from relay import client as module
from relay.client import Client, Stopped, retry_ms
from tests.helpers import wait_until
from tests.relay.conftest import StartRelay, expire, make_token

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
    """A scripted relay: each connection runs the next scene, the last one is repeated."""

    def __init__(self, *scenes: Scene) -> None:
        self.connections: list[ServerConnection] = []
        self._scenes = scenes

    async def play(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        await self._scenes[min(len(self.connections), len(self._scenes)) - 1](connection)

    def after(self, number: int) -> str:
        """The path and query of connection `number`."""
        request = self.connections[number].request
        assert request is not None
        return request.path

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[tuple[Client, list[dict[str, Any]]]]:
        """A client of this relay, and the list of frames it yields."""
        server: Server
        async with serve(self.play, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            client = Client(f"ws://127.0.0.1:{port}/ws", options.pop("token", lambda: "token"), **options)
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


async def test_the_cursor_moves_after_the_frame_has_been_handled() -> None:
    async with serve(Stage(says(hello(), event(2), event(3))).play, "127.0.0.1", 0) as server:
        client = Client(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws", lambda: "token")
        seen = []
        async for frame in client.frames():
            seen.append((frame["cursor"], client.cursor))
            if len(seen) == 2:
                break
    assert seen == [("aaaaaaaa-2", "aaaaaaaa-1"), ("aaaaaaaa-3", "aaaaaaaa-2")]


async def test_a_reconnect_presents_the_cursor_and_drops_duplicates() -> None:
    stage = Stage(
        says(hello(), event(2), close=1012, retry_ms=10),
        says(hello("replayed", "aaaaaaaa-2"), event(2), event(3, "e2"), event(4)),
    )
    async with stage.client() as (client, got):
        await wait_until(lambda: len(got) == 2)
        assert "after=aaaaaaaa-2" in stage.after(1)
        assert [frame["id"] for frame in got] == ["e2", "e4"]
        await wait_until(lambda: client.cursor == "aaaaaaaa-4")


@pytest.mark.parametrize("code", [1001, 1011, 1013, 4000, 4008, 4029, 4403, 4408])
async def test_the_client_reconnects_after_retryable_close_codes(code: int) -> None:
    stage = Stage(says(hello(), close=code, retry_ms=20), says(hello()))
    async with stage.client():
        await wait_until(lambda: len(stage.connections) == 2)


@pytest.mark.parametrize(("code", "connections"), [(4400, 1), (4401, 2)])
async def test_the_client_stops_after_4400_and_after_a_second_4401(code: int, connections: int) -> None:
    stage = Stage(says(close=code, retry_ms=0))
    async with serve(stage.play, "127.0.0.1", 0) as server:
        client = Client(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws", lambda: "token")
        with pytest.raises(Stopped, match=str(code)):
            await anext(client.frames())
    assert len(stage.connections) == connections


async def test_an_expiring_token_is_replaced() -> None:
    heard: list[dict[str, Any]] = []

    async def scene(connection: ServerConnection) -> None:
        await connection.send(hello())
        await connection.send('{"type":"auth_expiring","inSeconds":60}')
        heard.append(json.loads(await connection.recv()))

    async with Stage(scene).client():
        await wait_until(lambda: bool(heard))
    assert heard[0] == {"type": "auth", "token": "token"}


def failing(times: int, first: int = 0, token: Any = None) -> Callable[[], Any]:
    """A token callback that raises `times` times, after `first` good calls."""
    calls = itertools.count()

    def give() -> Any:
        if first <= next(calls) < first + times:
            raise KeyError("access_token")
        return token() if token else "token"

    return give


async def later() -> str:
    await asyncio.sleep(0.01)
    return "token"


@pytest.mark.parametrize("token", [failing(2), later, failing(1, 0, later)], ids=["raises", "async", "both"])
async def test_a_token_callback_that_raises_is_called_again(token: Callable[[], Any]) -> None:
    stage = Stage(says(hello(), event(2)))
    async with stage.client(token=token) as (_, got):
        await wait_until(lambda: len(got) == 1)
    request = stage.connections[0].request
    assert request is not None
    assert request.headers["Authorization"] == "Bearer token"


async def test_a_token_callback_that_hangs_is_cancelled_and_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKEN_SECONDS", 0.1)
    pending = [asyncio.Event().wait]
    stage = Stage(says(hello(), event(2)))
    async with stage.client(token=lambda: pending.pop()() if pending else "token") as (_, got):
        await wait_until(lambda: len(got) == 1)


async def test_a_token_callback_that_fails_at_renewal_does_not_end_the_stream() -> None:
    heard: list[str | bytes] = []

    async def scene(connection: ServerConnection) -> None:
        await connection.send(hello())
        await connection.send('{"type":"auth_expiring","inSeconds":60}')
        await connection.send(event(2))
        heard.append(await connection.recv())  # the acknowledgement: no new token was sent
        await connection.close(4401)

    stage = Stage(scene, says(hello("replayed", "aaaaaaaa-2"), event(3)))
    async with stage.client(token=failing(1, 1)) as (_, got):
        await wait_until(lambda: [frame["id"] for frame in got] == ["e2", "e3"])
    assert json.loads(heard[0])["type"] == "ack"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/ws", "127.0.0.1:9/ws", "ws://"])
async def test_an_invalid_address_raises_in_the_caller(url: str) -> None:
    async with asyncio.timeout(5):
        with pytest.raises(InvalidURI):
            await anext(Client(url, lambda: "token").frames())


async def test_frames_received_before_the_stop_are_yielded_before_it_raises() -> None:
    stage = Stage(says(hello(), *[event(number) for number in range(2, 30)], close=4400))
    got = []
    async with serve(stage.play, "127.0.0.1", 0) as server:
        client = Client(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws", lambda: "token")
        with pytest.raises(Stopped):  # noqa: PT012 - the frames come first
            async for frame in client.frames():
                got.append(frame["id"])
                await asyncio.sleep(0)
    assert got == [f"e{number}" for number in range(2, 30)]


BAD_FRAMES = {
    "no JSON": "nonsense", "no object": "[]", "no type": '{"cursor":"x"}', "type no text": '{"type":7}',
    "deep": "[" * 100_000, "huge number": f'{{"type":{"9" * 5000}}}', "binary": b"\x00\xff",
    "hello without a cursor": '{"type":"hello","start":"fresh"}', "hello without a start": '{"type":"hello","cursor":"x"}',
    "event without an id": f'{{"type":"{EXPIRED}","cursor":"x"}}', "event without a cursor": f'{{"type":"{EXPIRED}","id":"x"}}',
    "reset without a cursor": '{"type":"reset"}',
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_FRAMES.values(), ids=BAD_FRAMES)
@pytest.mark.parametrize("before", [[], [hello()]], ids=["first", "later"])
async def test_an_invalid_frame_closes_the_connection_and_the_next_one_works(before: list[str], bad: str) -> None:
    stage = Stage(says(*before, bad), says(hello("replayed"), event(2)))
    async with stage.client() as (_, got):
        await wait_until(lambda: len(got) == 1)
    assert stage.connections[0].close_code == 1003


async def test_a_hello_without_optional_fields_and_an_unknown_frame_are_accepted() -> None:
    stage = Stage(says('{"type":"hello","start":"fresh","cursor":"c"}', '{"type":"new"}', event(2)))
    async with stage.client() as (client, got):
        await wait_until(lambda: len(got) == 1)
        assert client.node is None
    assert len(stage.connections) == 1


@pytest.mark.parametrize("cursor", ["a\r\nX: y", "\ud800", "&token=x#", "é"])
async def test_a_cursor_with_special_characters_is_presented_unchanged(cursor: str) -> None:
    first = json.dumps({"type": EXPIRED, "id": "e", "cursor": cursor})
    stage = Stage(says(hello(), first, close=1012, retry_ms=0), says(hello()))
    async with stage.client():
        await wait_until(lambda: len(stage.connections) == 2)
    assert parse_qs(stage.after(1).partition("?")[2]) == {"after": [cursor.replace("\ud800", "?")]}


@pytest.mark.parametrize("cursor", [None, 7, ["x"]])
async def test_a_cursor_that_is_not_text_does_not_move_the_position(cursor: object) -> None:
    bad = json.dumps({"type": EXPIRED, "id": "e", "cursor": cursor})
    stage = Stage(says(hello(), bad), says(hello(), event(2)))
    async with stage.client() as (_, got):
        await wait_until(lambda: len(got) == 1)
    assert "after=aaaaaaaa-1" in stage.after(1)


@pytest.mark.parametrize(
    ("given", "wait"),
    [
        (1500, 1500), (0, 0), (-1e6, 0), (1e300, 86_400_000), (10**400, 86_400_000), (float("inf"), 86_400_000),
        (float("-inf"), 0), (float("nan"), None), ("5", None), (None, None), ([], None), (True, None),
    ],
    ids=lambda given: repr(given)[:12],
)  # fmt: skip
def test_retry_after_is_cut_to_a_day(given: object, wait: float | None) -> None:
    assert retry_ms({"retryAfterMs": given}) == wait
    assert retry_ms({}) is None
    assert retry_ms([]) is None


@pytest.mark.parametrize("given", ["0", None])  # how each value is read: test_retry_after_is_cut_to_a_day
@pytest.mark.parametrize("greeted", [False, True])
async def test_repeated_drain_frames_open_few_connections(given: str | None, greeted: bool) -> None:
    """50 drain frames on each connection, with and without hello: one successor at a time, at growing intervals."""
    drain = '{"type":"drain"}' if given is None else f'{{"type":"drain","retryAfterMs":{given}}}'
    stage = Stage(says(*([hello()] if greeted else []), *[drain] * 50))
    async with stage.client():
        await asyncio.sleep(2)
        assert len([one for one in stage.connections if one.close_code is None]) <= 2
    assert 1 <= len(stage.connections) <= 12


async def test_a_drain_before_hello_opens_no_second_connection() -> None:
    stage = Stage(says('{"type":"drain","retryAfterMs":0}', hello(), event(2)))
    async with stage.client() as (_, got):
        await wait_until(lambda: len(got) == 1)
        await asyncio.sleep(0.3)
    assert len(stage.connections) == 1


async def test_a_connection_without_a_hello_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.3)

    async def scene(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await connection.send('{"type":"ping"}')
                await asyncio.sleep(0.05)

    stage = Stage(scene)
    async with stage.client():
        await wait_until(lambda: len(stage.connections) == 2)


@pytest.mark.parametrize("reason", ["0", "{"])
async def test_connections_closed_at_once_are_retried_with_back_off(reason: str) -> None:
    async def scene(connection: ServerConnection) -> None:
        await connection.close(1013, f'{{"retryAfterMs":{reason}}}')

    stage = Stage(scene)
    async with stage.client():
        await asyncio.sleep(2)
    assert 2 <= len(stage.connections) <= 12


async def test_a_message_of_two_mib_closes_the_connection() -> None:
    stage = Stage(
        says(hello(), json.dumps({"type": EXPIRED, "id": "e", "cursor": "c", "x": "y" * 2**21})), says(hello())
    )
    async with stage.client() as (_, got):
        await wait_until(lambda: len(stage.connections) == 2)
    assert not got


async def test_a_client_of_a_draining_relay_changes_over_before_the_relay_closes(
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
    await wait_until(lambda: bool(got))
    ending = asyncio.create_task(old.stop())
    await wait_until(lambda: any(frame["type"] == "drain" for frame in got))
    expire(db, user)
    await wait_until(lambda: client.node == "test-1")
    expire(db, user)
    await wait_until(lambda: sum(":" in frame["type"] for frame in got) == 2)
    await ending
    assert old.relay.metrics.closed.labels("4000")._value.get() == 0, "the client had closed it before"
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
