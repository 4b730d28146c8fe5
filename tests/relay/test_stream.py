"""Server-sent events: the same frames, places, limits and ends as by a WebSocket, also through nginx."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest

from relay.websocket import plain
from tests.conftest import free_port
from tests.helpers import PATIENCE, wait_until
from tests.relay.conftest import Running, StartRelay, cursors, expire, make_token, warn
from tests.relay.nginx import accepts, start_nginx
from tests.relay.raw_client import layer, raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.conftest import Connection

STREAM = {"Accept": "text/event-stream"}


@dataclass
class Stream:
    """A client that writes down what it is sent: frames, the id after each, comments, the body of a refusal."""

    response: httpx.Response
    frames: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    is_over: bool = False

    async def read(self) -> None:
        """Read to the end, as an EventSource would."""
        data, place = "", None
        try:
            async for line in self.response.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "data":
                    data += value
                elif name == "id":
                    place = value
                elif line:
                    self.other.append(line)
                elif data:
                    self.frames.append(json.loads(data))
                    self.ids.append(place)
                    data = ""
        finally:
            self.is_over = True

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The frames of one type."""
        return [frame for frame in self.frames if frame["type"] == kind]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The frames that are events."""
        return [frame for frame in self.frames if ":" in frame["type"]]

    @property
    def closed(self) -> tuple[int, dict[str, Any]]:
        """What the comment at the end says; its retry field says the same."""
        comment, retry = self.other
        word, code, reason = comment.removeprefix(": ").split(" ", 2)
        said = json.loads(reason)
        assert (word, retry) == ("closed", f"retry: {said['retryAfterMs']}")
        return int(code), said

    async def until(self, is_so: Callable[[Stream], object], seconds: float = PATIENCE) -> None:
        """Wait until something is so of this client."""
        try:
            await wait_until(lambda: bool(is_so(self)), seconds)
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s; frames {self.frames}, other {self.other}") from None


@asynccontextmanager
async def stream(
    relay: Running | str,
    user: UUID,
    path: str = "/events",
    token: str | None = None,
    *,
    verify: Any = True,
    **more: str,
) -> AsyncIterator[Stream]:
    """A client of a user that has been answered; more: headers."""
    headers = {**STREAM, "Authorization": f"Bearer {token or make_token(user)}"}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    url = relay.http(path) if isinstance(relay, Running) else relay + path
    async with (
        httpx.AsyncClient(verify=verify, timeout=30) as client,
        client.stream("GET", url, headers=headers, extensions={"sni_hostname": "chat.test"}) as response,
    ):
        one = Stream(response)
        reading = asyncio.create_task(one.read())
        try:
            if response.status_code == 200:
                await one.until(lambda it: it.frames or it.is_over)
            yield one
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def refused(relay: Running, user: UUID, token: str | None = None, **more: str) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer to a client that gets no stream."""
    headers = {**STREAM, "Authorization": f"Bearer {token or make_token(user)}", **more}
    async with httpx.AsyncClient() as client:
        answer = await client.get(relay.http("/events"), headers=headers)
        assert answer.headers["content-type"] == "application/json"
        return answer.status_code, answer.json()


@pytest.mark.parametrize("sockets", ["push", "stock"])
async def test_the_same_frames_as_by_a_websocket_each_event_with_its_cursor(
    start_relay: StartRelay, db: Connection, user: UUID, sockets: str
) -> None:
    relay = await start_relay(sockets=sockets, ping_seconds=1.5)
    token = make_token(user)
    async with (
        relay.peer(user, token=token) as peer,
        stream(relay, user, token=token) as one,
        stream(relay, uuid4()) as other,
    ):
        headers = one.response.headers
        assert headers["content-type"] == "text/event-stream"
        assert (headers["x-accel-buffering"], "no-transform" in headers["cache-control"]) == ("no", True)
        session = warn(db, user)
        await peer.until(lambda it: it.events)
        db.execute("select after_hours.end_session(%s, 'left')", (session,))
        db.execute("select after_hours.announce_due()")
        relay.relay.hub.send_stale(0.0)
        relay.relay.hub.send_live()
        for client in (peer, one):
            await client.until(lambda it: it.of("ping") and it.of("live") and len(it.events) == 2)
        same = [
            {name: value for name, value in frame.items() if name != "serverTime"}
            for client in (peer, one)
            for frame in client.frames
            if frame["type"] != "ping"
        ]
        assert same[:5] == same[5:]
        assert {frame["type"] for frame in one.frames} == {frame["type"] for frame in peer.frames}
        assert not other.events
        # The place to come back to: a hello's, then that of each event.
        places = {frame["type"]: place for frame, place in zip(one.frames, one.ids, strict=True)}
        assert one.ids[0] == one.frames[0]["cursor"]
        assert [places[frame["type"]] for frame in one.events] == cursors(db)
        assert one.ids[-1] == cursors(db)[-1]


async def test_it_goes_on_after_the_last_event_id(relay: Running, db: Connection, user: UUID) -> None:
    expire(db, user, uuid4(), user, user)
    mine = [cursors(db)[number] for number in (0, 2, 3)]
    async with stream(relay, user, f"/events?after={mine[0]}") as one:
        await one.until(lambda it: len(it.events) == 2)
        assert (one.frames[0]["start"], one.ids) == ("replayed", mine)
    # An EventSource comes back with the address that it was given first.
    async with stream(relay, user, f"/events?after={mine[0]}", Last_Event_ID=mine[1]) as one:
        await one.until(lambda it: it.events)
        assert one.ids == mine[1:]
    async with stream(relay, user, Last_Event_ID="no cursor") as one:
        assert (one.frames[0]["start"], one.ids) == ("reset", [one.frames[0]["cursor"]])


async def test_who_gets_no_stream_is_answered_with_the_close_code(
    start_relay: StartRelay, db: Connection, user: UUID
) -> None:
    relay = await start_relay(max_sockets_per_user=2)
    assert await refused(relay, user, token="x") == (401, {"error": "token", "reason": "unreadable"})
    assert (await refused(relay, user, Origin="https://evil.example"))[0] == 403
    async with relay.peer(user) as oldest, stream(relay, user), stream(relay, user):  # the newest wins
        await oldest.until(lambda it: it.closed)
        assert oldest.closed is not None
        assert oldest.closed[0] == 4029
    old = make_token(user)
    db.execute("select after_hours.disconnect_user(%s, 'test')", (user,))
    assert await refused(relay, user, token=old) == (401, {"error": "token", "code": 4401, "retryAfterMs": 1000})
    db.execute("select after_hours.block_user(%s, now() + interval '1 hour', 'test')", (user,))
    status, body = await refused(relay, user)
    assert (status, body["error"], body["code"]) == (403, "blocked", 4403)
    assert 3_500_000 < body["retryAfterMs"] <= 3_600_000
    relay.relay.state.is_draining = True
    assert await refused(relay, user) == (503, {"error": "draining"})


async def test_a_question_without_an_answer_is_a_503(
    relay: Running, db: Connection, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.websocket.keepalive.HOLD_SECONDS", 0.1)
    db.execute("begin; lock table after_hours.user_blocks in access exclusive mode")
    try:
        status, body = await refused(relay, user)
        assert (status, body["error"], body["code"]) == (503, "try_later", 1013)
    finally:
        db.execute("rollback")


async def test_a_block_ends_the_stream_and_says_so(relay: Running, db: Connection, user: UUID) -> None:
    async with stream(relay, user) as one, stream(relay, uuid4()) as other:
        db.execute("select after_hours.block_user(%s, now() + interval '1 hour', 'test')", (user,))
        await one.until(lambda it: it.is_over)
        code, said = one.closed
        assert code == 4403
        assert 3_500_000 < said["retryAfterMs"] <= 3_600_000
        assert not other.is_over
        assert relay.relay.hub.count == 1


async def test_a_token_that_runs_out_ends_the_stream(start_relay: StartRelay, user: UUID) -> None:
    relay = await start_relay(token_grace_seconds=0)
    async with stream(relay, user, token=make_token(user, exp=time.time() + 1.5)) as one:
        await one.until(lambda it: it.of("auth_expiring"))
        await one.until(lambda it: it.is_over)
        assert one.closed[0] == 4401


async def test_a_drain_is_told_and_ends_it(start_relay: StartRelay, user: UUID) -> None:
    relay = await start_relay(drain_seconds=0.5)
    async with stream(relay, user) as stays, stream(relay, user) as goes:
        stopping = asyncio.create_task(relay.stop())
        await goes.until(lambda it: it.of("drain"))
        await goes.response.aclose()
        await stays.until(lambda it: it.is_over)
        assert stays.of("drain")
        assert stays.closed[0] == 4000
        async with asyncio.timeout(10):
            await stopping


async def test_it_outlives_every_limit_of_a_plain_answer(
    start_relay: StartRelay, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("READ_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(plain, name, 0.1)
    relay = await start_relay(ping_seconds=0.4)
    async with stream(relay, user) as one:
        await one.until(lambda it: len(it.of("ping")) == 4)  # it never says anything, and is not silent
        assert not one.is_over


async def test_who_reads_too_slowly_is_told_in_the_end(relay: Running, db: Connection, user: UUID) -> None:
    assert relay.relay.bind
    request = (
        f"GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer {make_token(user)}"
    )
    async with raw(relay.relay.bind[1]) as slow:
        await slow.send(f"{request}\r\n\r\n".encode())
        await wait_until(lambda: relay.relay.hub.count == 1 and relay.relay.hub.connections()[0].has_hello)
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        transport = relay.relay.hub.connections()[0].transport
        while transport.write(b"\x81\x7e\x10\x00" + b"x" * 4096):
            assert transport.buffered() <= 192 * 1024
        assert relay.relay.hub.count == 0
        assert relay.relay.metrics.slow._value.get() == 1
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            assert b"\n\n: closed 4008 {" in (await slow.reader.read(-1))[-200:]


async def test_who_leaves_is_forgotten(relay: Running, user: UUID) -> None:
    usage = relay.relay.limiter._proxies  # loopback is trusted
    async with stream(relay, user):
        assert (relay.relay.hub.count, usage.count) == (1, 1)
    await wait_until(lambda: relay.relay.hub.count == 0)
    await wait_until(lambda: not relay.relay.public.server_state.connections)
    assert usage.count == 0


async def test_who_has_left_before_the_answer_is_never_kept() -> None:
    taken: list[Any] = []

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()  # http.disconnect
        taken.append(scope["state"]["stream"]([]))
        await taken[0].set_handler(Handler(), "it")

    class Handler:
        def on_close(self, connection: str) -> None:
            taken.append(connection)

    async with layer("push", application=late) as wire, raw(wire.port) as client:
        await client.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
    assert taken[1:] == ["it"]
    assert not taken[0].write(b"\x81\x01x")


async def test_written_counts_and_nothing_is_acknowledged(relay: Running, db: Connection, user: UUID) -> None:
    def receipts() -> list[tuple[bool, bool]]:
        rows = db.execute(
            "select first_write is not null as written, first_ack is not null as acked from after_hours.receipts"
        )
        return [tuple(row) for row in rows]

    async with stream(relay, user) as one:
        expire(db, user)
        await one.until(lambda it: it.events)
        await one.until(lambda _: receipts() == [(True, False)])


async def test_a_page_of_an_allowed_origin_may_read_it(start_relay: StartRelay, user: UUID) -> None:
    relay = await start_relay(origins="https://chat.example")
    preflight = {
        "Origin": "https://chat.example", "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }  # fmt: skip
    async with httpx.AsyncClient() as client:
        answer = await client.options(relay.http("/events"), headers=preflight)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "https://chat.example")
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        answer = await client.options(relay.http("/events"), headers={**preflight, "Origin": "https://evil.example"})
        assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (403, None)
        for token, status in ((make_token(user), 200), ("x", 401)):
            headers = {"Origin": "https://chat.example", "Authorization": f"Bearer {token}"}
            answer = await client.get(relay.http("/events"), headers=headers)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, headers["Origin"])
    async with stream(relay, user, Origin="https://chat.example") as one:
        assert one.response.headers["access-control-allow-origin"] == "https://chat.example"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/event-stream", "text/event-stream"), ("Text/Event-Stream;q=1, */*", "text/event-stream"),
        ("*/*", "application/json"), ("text/*", "application/json"),
    ],
)  # fmt: skip
async def test_only_who_asks_for_a_stream_gets_one(relay: Running, user: UUID, accept: str, kind: str) -> None:
    async with stream(relay, user, Accept=accept) as one:
        assert one.response.headers["content-type"] == kind
    async with httpx.AsyncClient() as client:
        headers = {"Accept": accept, "Authorization": f"Bearer {make_token(user)}"}
        assert (await client.head(relay.http("/events"), headers=headers)).status_code == 200


@pytest.mark.parametrize("buffering", ["on", "off"])
async def test_through_nginx_each_frame_comes_at_once(
    start_relay: StartRelay, db: Connection, user: UUID, nginx: Path, tmp_path: Path, buffering: str
) -> None:
    relay = await start_relay(drain_seconds=1)
    assert relay.relay.bind
    port = free_port()
    process = start_nginx(nginx, tmp_path, port, relay.relay.bind[1], buffering=buffering)
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    try:
        await accepts(port)
        through = {"verify": trust, "Host": "chat.test", "Accept_Encoding": "gzip"}
        async with stream(f"https://127.0.0.1:{port}", user, **through) as one:  # type: ignore[arg-type]
            for count in range(1, 4):
                expire(db, user)
                await one.until(lambda it, count=count: len(it.events) == count)  # type: ignore[misc]
            place = one.ids[-1]
        await wait_until(lambda: relay.relay.hub.count == 0)  # nginx tells who has left
        expire(db, user)
        async with stream(f"https://127.0.0.1:{port}", user, Last_Event_ID=str(place), **through) as one:  # type: ignore[arg-type]
            await one.until(lambda it: it.events)
            assert one.ids == [place, cursors(db)[-1]]
            await relay.stop()
            await one.until(lambda it: it.is_over)
            assert (bool(one.of("drain")), one.closed[0]) == (True, 4000)
    finally:
        process.terminate()
        process.wait()
