"""Handshake and frames: which clients are accepted, which code each refusal has, and clients that do not read."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import time
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from relay.client import Client
from relay.protocol import MAX_FRAME, MAX_MESSAGE, MAX_TOKEN
from relay.websocket.kinds import KINDS
from tests.helpers import PATIENCE, wait_until
from tests.relay.conftest import Running, StartRelay, cursors, expire, make_token
from tests.relay.raw_client import handshake, raw

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.conftest import Connection

NO_HEADERS: dict[str, Any] = {"additional_headers": {}}


async def closed_with(relay: Running, *frames: str | bytes, **more: Any) -> tuple[int, Any]:
    """Connect without a token in the header, send these frames, and return code and reason of the close."""
    async with connect(relay.url, compression=None, **more) as connection:
        for frame in frames:
            await connection.send(frame)
        with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - whatever comes before the close
            while True:
                await connection.recv()
    assert closed.value.rcvd
    reason = closed.value.rcvd.reason
    return closed.value.rcvd.code, json.loads(reason) if reason.startswith("{") else reason


async def test_a_browser_authenticates_with_its_first_frame(relay: Running, db: Connection, user: UUID) -> None:
    expire(db, user, user)
    async with relay.peer(
        user, subprotocols=["after-hours.v1"], origin=relay.url[:-3].replace("ws", "http"), **NO_HEADERS
    ) as peer:
        assert peer.connection.subprotocol == "after-hours.v1"
        await peer.say(type="auth", token=make_token(user), after=cursors(db)[0])
        await peer.until(lambda it: it.events)
        assert peer.frames[0]["start"] == "replayed"
        assert [event["cursor"] for event in peer.events] == cursors(db)[1:]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('{"type":"auth","token":"x"}', 4401),
        ('{"type":"auth"}', 4401),
        ('{"type":"auth","token":{"a":1}}', 4401),
        ('{"type":"sync"}', 4400),
        ("nonsense", 4400),
        (b"\x00", 4400),
        ('{"type":"auth","token":"' + "x" * 4096 + '"}', 4401),
        ('{"type":"auth","token":"' + "x" * (MAX_TOKEN + 1) + '"}', 4400),
        ('{"type":"auth","token":"' + "x" * MAX_MESSAGE + '"}', 1009),
        ('{"type":"sync","x":"' + "x" * MAX_FRAME + '"}', 1009),
        ("[" * (MAX_FRAME + 1), 1009),
        ('{"type":"sync","x":"' + "é" * (MAX_FRAME // 2) + '"}', 1009),
    ],
)
async def test_a_wrong_first_frame_closes_with_its_code(relay: Running, frame: str | bytes, code: int) -> None:
    assert (await closed_with(relay, frame))[0] == code


async def test_without_a_first_frame_in_time_the_connection_is_closed(
    relay: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.public.websocket.AUTH_SECONDS", 0.2)
    started = time.monotonic()
    code, reason = await closed_with(relay)
    assert code == 4408
    assert reason["retryAfterMs"] > 0
    assert 0.15 < time.monotonic() - started < 2


async def test_a_wrong_token_in_the_header_is_accepted_and_closed(relay: Running) -> None:
    """A browser can read a close code, but no HTTP status."""
    for header in ("Bearer x", f"Bearer {make_token('x')}", "Bearer "):
        assert (await closed_with(relay, additional_headers={"Authorization": header}))[0] == 4401


async def test_the_claim_that_is_wrong_is_said_at_every_door(relay: Running, user: UUID) -> None:
    """CASES 3: `missingrequiredclaim`, and not which."""
    token = make_token(user, aud=None)
    details = {"reason": "missingrequiredclaim", "claim": "aud"}
    said = (4401, {"retryAfterMs": 0, **details})
    assert await closed_with(relay, additional_headers={"Authorization": f"Bearer {token}"}) == said
    async with relay.peer(user) as peer:
        await peer.say(type="auth", token=token)
        await peer.until(lambda it: it.closed)
        assert peer.closed == said
    async with httpx.AsyncClient() as client:
        answer = await client.get(relay.http("/events"), headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()) == (401, {"error": "token", **details})


@pytest.mark.parametrize("sockets", list(KINDS))
async def test_a_long_token_has_a_way_in(start_relay: StartRelay, user: UUID, sockets: str) -> None:
    """CASES 3: Keycloak puts every role into a token; 5.9 kB in a header got 4401, in a first frame 1009, 9.6 kB 431."""
    relay = await start_relay(sockets=sockets)
    long, longer = (make_token(user, realm_access={"roles": ["role"] * n}) for n in (600, 1010))
    longest = make_token(user, pad="x" * 12_100)
    assert 5_500 < len(long) < 7_000 < 9_500 < len(longer) < 16_300 < len(longest) <= MAX_TOKEN
    async with relay.peer(user, token=long) as peer:
        assert peer.frames[0]["type"] == "hello"
    for token in (long, longer, longest):
        async with relay.peer(user, **NO_HEADERS) as peer:
            await peer.say(type="auth", token=token)
            await peer.until(lambda it: it.of("hello"))
            await peer.say(type="auth", token=token)  # it is renewed as well
            await peer.until(lambda it: it.of("snapshot"))
        client = Client(relay.url, partial(str, token), all_frames=True)
        async with aclosing(cast("AsyncGenerator[dict[str, Any], None]", client.frames())) as frames:
            assert (await anext(frames))["type"] == "hello"


@pytest.mark.parametrize("sockets", list(KINDS))
async def test_a_token_that_is_too_long_is_told_so(start_relay: StartRelay, user: UUID, sockets: str) -> None:
    """Never "get a new token": it would be as long."""
    relay = await start_relay(sockets=sockets)
    too_long = make_token(user, pad="x" * 13_000)
    told = (4400, {"retryAfterMs": 0, "reason": "too_long"})
    assert await closed_with(relay, json.dumps({"type": "auth", "token": too_long})) == told
    async with relay.peer(user) as peer:
        await peer.say(type="auth", token=too_long)
        await peer.until(lambda it: it.closed)
        assert peer.closed == told
    assert relay.relay.bind
    for size in (8000, 9600, 40_000):
        for path in ("/ws", "/events"):
            async with raw(relay.relay.bind[1]) as client:
                await client.send(handshake(path, authorization="Bearer " + "x" * size))
                status, headers = await client.answer()
                assert (status, await client.json(headers)) == (431, {"error": "token_too_long_for_a_header"})
    async with raw(relay.relay.bind[1]) as client:
        await client.send(handshake(cookie="x" * 9000, authorization="Bearer x"))
        status, headers = await client.answer()
        assert (status, await client.json(headers)) == (431, {"error": "headers"})


@pytest.mark.parametrize("frame", [b"\x00\x01", "nonsense", "[]", '{"type":7}'])
async def test_an_invalid_frame_after_hello_closes_with_4400(relay: Running, user: UUID, frame: str | bytes) -> None:
    async with relay.peer(user) as peer:
        await peer.connection.send(frame)
        await peer.until(lambda it: it.closed)
        assert peer.closed
        assert peer.closed[0] == 4400
    await wait_until(lambda: relay.relay.hub.count == 0)


async def test_a_large_frame_closes_and_an_unknown_type_does_not(relay: Running, db: Connection, user: UUID) -> None:
    async with relay.peer(user) as peer:
        await peer.say(type="later", x="y" * 3000)
        expire(db, user)
        await peer.until(lambda it: it.events)
        await peer.connection.send("x" * 4097)
        await peer.until(lambda it: it.closed)
        assert peer.closed
        assert peer.closed[0] == 1009


async def test_a_flood_of_frames_closes_with_4029(relay: Running, user: UUID) -> None:
    async with relay.peer(user) as peer:
        with suppress(ConnectionClosed):
            for _ in range(20_000):
                await peer.say(type="sync")
        await peer.until(lambda it: it.closed)
        assert peer.closed
        assert peer.closed[0] == 4029


async def refused(relay: Running, path: str = "", **headers: str) -> int:
    """The HTTP status with which a handshake was refused; 101 if it wasn't."""
    try:
        async with connect(relay.url + path, compression=None, additional_headers=headers):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


async def test_only_own_and_listed_origins_are_accepted(start_relay: StartRelay) -> None:
    relay = await start_relay(origins="https://app.example,http://localhost:3000")
    assert relay.relay.bind
    port = relay.relay.bind[1]
    good = [f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}", "https://app.example", "http://localhost:3000"]
    for origin in good:
        assert await refused(relay, Origin=origin) == 101, origin
    bad = [
        "null", "", "https://evil.example", "http://app.example", "https://app.example:444", "http://127.0.0.1",
        f"http://127.0.0.1:{port}.evil.example", f"http://127.0.0.1:{port}@evil.example", "https://sub.app.example",
        f"http://127.0.0.2:{port}", "http://localhost", "http://[", f"http://127.0.0.1:{port + 1}", "file://",
    ]  # fmt: skip
    for origin in bad:
        assert await refused(relay, Origin=origin) == 403, origin


@pytest.mark.parametrize("query", ["token={t}", "access_token={t}", "jwt=1", "x={t}", "after={t}", "TOKEN=1"])
async def test_a_token_in_the_url_is_refused_and_not_logged(
    relay: Running, user: UUID, query: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    token = make_token(user)
    caplog.set_level("DEBUG")
    assert await refused(relay, "?" + query.format(t=token), Authorization=f"Bearer {token}") == 400
    async with httpx.AsyncClient() as client:
        answer = await client.get(relay.http("/events?" + query.format(t=token)))
    assert answer.status_code == 400
    assert token not in answer.text


async def test_connections_above_the_limits_are_refused(start_relay: StartRelay, user: UUID) -> None:
    relay = await start_relay(max_sockets=3, max_sockets_per_user=2)
    async with relay.peer(user), relay.peer(user), relay.peer(uuid4()) as other, relay.peer(uuid4()) as fourth:
        assert other.closed is None
        assert fourth.closed
        assert fourth.closed[0] == 4029
        assert fourth.closed[1]["retryAfterMs"] >= 5000
    async with relay.peer(user) as again:
        assert again.closed is None


async def test_a_token_is_renewed_by_its_user_only(start_relay: StartRelay, user: UUID) -> None:
    relay = await start_relay(token_grace_seconds=0)
    async with relay.peer(user, token=make_token(user, exp=time.time() + 2)) as peer:
        await peer.until(lambda it: it.of("auth_expiring"))
        assert peer.of("auth_expiring")[0]["inSeconds"] <= 2
        await peer.say(type="auth", token=make_token(user, sub=str(user).upper(), exp=time.time() + 3600))
        await peer.until(lambda it: it.of("snapshot"))
        assert peer.of("snapshot")[0]["tokenExpiresAt"] > peer.frames[0]["tokenExpiresAt"]
        await asyncio.sleep(2.5)
        assert peer.is_open
        await peer.say(type="auth", token=make_token(uuid4()))
        await peer.until(lambda it: it.closed)
        assert peer.closed
        assert peer.closed[0] == 4400
    async with relay.peer(user, token=make_token(user, exp=time.time() + 1)) as peer:
        await peer.until(lambda it: it.closed)
        assert peer.closed
        assert peer.closed[0] == 4401


async def test_a_blocked_users_refresh_is_refused(relay: Running, db: Connection, user: UUID) -> None:
    async with relay.peer(user) as peer:
        db.execute(
            "insert into after_hours.user_blocks values (%s, null, now(), 'unseen', 'test', now() - interval '1 hour')",
            (user,),
        )
        await peer.say(type="auth", token=make_token(user, iat=time.time() - 100))
        await peer.until(lambda it: it.closed)
        assert peer.closed == (4401, {"retryAfterMs": 1000})


async def test_events_over_http_replays_and_refuses_like_the_websocket(
    relay: Running, db: Connection, user: UUID
) -> None:
    expire(db, user, uuid4(), user)
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {make_token(user)}"}) as client:
        first = (await client.get(relay.http("/events"))).json()
        assert (first["start"], first["cursor"], first["events"]) == ("fresh", cursors(db)[2], [])
        then = (await client.get(relay.http(f"/events?after={cursors(db)[0]}"))).json()
        assert (then["start"], [event["cursor"] for event in then["events"]]) == ("replayed", cursors(db)[2:])
        assert (await client.get(relay.http("/events?after=x"))).json()["start"] == "reset"
        db.execute("select after_hours.block_user(%s, null, 'x')", (user,))
        blocked = await client.get(relay.http("/events"))
        assert (blocked.status_code, blocked.json()["retryAfterMs"]) == (403, 86_400_000)
    async with httpx.AsyncClient() as client:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}):
            answer = await client.get(relay.http("/events"), headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.get(relay.http("/events"), headers={"Origin": "null"})).status_code == 403
        assert (await client.get(relay.http("/ws"))).status_code == 426
        for hidden in ("/readyz", "/metrics", "/ops"):
            assert (await client.get(relay.http(hidden))).status_code == 404


def raw_client(relay: Running, user: UUID, buffer: int = 4096) -> socket.socket:
    """A client that does not read after its handshake, with a small buffer."""
    assert relay.relay.bind
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    raw.connect(tuple(relay.relay.bind))
    key = base64.b64encode(os.urandom(16)).decode()
    raw.sendall(
        f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\nAuthorization: Bearer {make_token(user)}\r\n\r\n".encode()
    )
    return raw


async def test_a_client_that_does_not_read_is_cut_and_others_do_not_wait(
    start_relay: StartRelay, db: Connection, user: UUID
) -> None:
    relay = await start_relay(stuck_seconds=1)
    other = uuid4()
    with raw_client(relay, user):
        await wait_until(lambda: any(one.has_hello for one in relay.relay.hub.connections()))
        async with relay.peer(other) as peer:
            expire(db, *[user] * 700, announce=False)
            db.execute("select after_hours.announce_due()")
            await wait_until(lambda: any(s.transport.buffered() for s in relay.relay.hub.users.get(user, ())))
            started = time.monotonic()
            expire(db, other)
            await peer.until(lambda it: it.events)
            await wait_until(lambda: user not in relay.relay.hub.users)
            assert 0.5 < time.monotonic() - started < 3.5
            assert peer.closed is None
    assert relay.relay.metrics.slow._value.get() == 1


async def test_a_client_that_does_not_read_costs_at_most_256_kib(relay: Running, db: Connection, user: UUID) -> None:
    with raw_client(relay, user):
        await wait_until(lambda: any(one.has_hello for one in relay.relay.hub.connections()))
        most = 0
        db.execute(
            "insert into public.after_hours_sessions (user_id, started_at, expires_at)"
            " select %s, now() - interval '1 hour', now() - interval '1 second' from generate_series(1, 3000)",
            (user,),
        )
        db.execute("select after_hours.announce_due()")
        async with asyncio.timeout(PATIENCE):
            while relay.relay.hub.users.get(user):
                most = max(most, *(one.transport.buffered() for one in relay.relay.hub.users[user]))
                await asyncio.sleep(0)
        assert most <= 256 * 1024


@pytest.mark.parametrize("kind", ["push", "stock"])
async def test_a_client_cut_for_unread_bytes_is_counted_and_gets_the_code_if_it_reads(
    start_relay: StartRelay, db: Connection, user: UUID, kind: str
) -> None:
    relay = await start_relay(sockets=kind)
    with raw_client(relay, user) as raw:
        await wait_until(lambda: any(one.has_hello for one in relay.relay.hub.connections()))
        expire(db, *[user] * 3000, announce=False)
        db.execute("select after_hours.announce_due()")
        await wait_until(lambda: user not in relay.relay.hub.users)
        assert relay.relay.metrics.slow._value.get() == 1
        assert relay.relay.metrics.closed.labels("4008")._value.get() == 1
        received = b""
        raw.setblocking(False)
        async with asyncio.timeout(PATIENCE):
            while not received.endswith(b"}") or b'"retryAfterMs"' not in received[-60:]:
                with suppress(BlockingIOError):
                    received += raw.recv(65_536)
                await asyncio.sleep(0.001)
    at = received.rindex(b'{"retryAfterMs"')
    assert received[at - 4 : at] == bytes([0x88, len(received) - at + 2]) + (4008).to_bytes(2)


async def test_a_slow_client_that_reads_is_not_cut(start_relay: StartRelay, db: Connection, user: UUID) -> None:
    relay = await start_relay(stuck_seconds=1.5)
    with raw_client(relay, user, 16_384) as raw:
        raw.setblocking(False)
        await wait_until(lambda: any(one.has_hello for one in relay.relay.hub.connections()))
        expire(db, *[user] * 1000)
        behind = 0
        while behind < 20:  # for longer than stuck_seconds
            with suppress(BlockingIOError):
                raw.recv(4_096)
            behind += any(one.transport.buffered() for one in relay.relay.hub.connections())
            await asyncio.sleep(0.1)
        assert relay.relay.hub.count == 1
