"""Limits per address, network and user for all kinds of requests: one that exceeds its limit does not affect the others."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from relay.logs import RateLimitedLogger
from relay.public.limits import QUESTION_BURST, QUESTION_RATE, UserLimiter
from relay.websocket.kinds import KINDS
from relay.websocket.limits import (
    MAX_REFUSED,
    NETWORK_SHARE,
    UNREADABLE,
    UNREADABLE_SHARE,
    LimitExceeded,
)
from tests.helpers import wait_until
from tests.relay.conftest import StartRelay, make_token
from tests.relay.raw_client import handshake, layer, raw
from tests.relay.test_hostile import make_limiter

if TYPE_CHECKING:
    from uuid import UUID

    from tests.conftest import Connection
    from tests.relay.raw_client import Layer

BAD, GOOD = "127.0.0.1", "127.0.0.2"
PLAIN = b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def answered(wire: Layer, sent: bytes, source: str = BAD) -> tuple[int, Any]:
    """The status of the answer, and what its JSON says."""
    async with asyncio.timeout(5), raw(wire.port, source=source) as client:
        await client.send(sent)
        status, headers = await client.answer()
        return status, None if status == 101 else (await client.json(headers)).get("error")


async def is_greeted(wire: Layer, source: str = GOOD, sent: bytes | None = None) -> None:
    """A client of another address is accepted within a second."""
    async with asyncio.timeout(1), raw(wire.port, sent or handshake(), source=source):
        pass


# ---- the address


async def test_silent_connections_count_for_their_address(kind: str) -> None:
    """R7: they were not counted, and filled the relay."""
    async with layer(kind, trusted_proxies="", max_sockets_per_address=5) as wire, AsyncExitStack() as stack:
        wire.limiter.capacity = 30
        for _ in range(30 + MAX_REFUSED):
            await stack.enter_async_context(raw(wire.port, source=BAD))
        await wait_until(lambda: wire.metrics.refused.labels("address_full")._value.get() == 25 + MAX_REFUSED)
        await is_greeted(wire)
        assert len(wire.state.connections) <= 5 + MAX_REFUSED + 1


async def test_refused_connections_do_not_add_up(kind: str) -> None:
    """A refused connection stays open until its answer is read; their number is limited, to keep descriptors free."""
    async with layer(kind, trusted_proxies="", max_sockets_per_address=1) as wire, AsyncExitStack() as stack:
        for _ in range(3 * MAX_REFUSED):
            await stack.enter_async_context(raw(wire.port, source=BAD))
        await wait_until(
            lambda: wire.metrics.refused.labels("address_full")._value.get() == 3 * MAX_REFUSED - 1  # the first is in
        )
        assert len(wire.state.connections) == MAX_REFUSED + 1
        await is_greeted(wire)


async def test_an_address_over_its_limit_does_not_use_the_rate_of_all(kind: str) -> None:
    """R6: refused handshakes counted for the rate of all."""
    async with layer(kind, max_handshakes=20, max_sockets_per_address=5) as wire:
        for _ in range(100):
            status, _error = await answered(wire, handshake(x_forwarded_for="192.0.2.1"))
            assert status in (101, 503)
        assert wire.metrics.refused.labels("handshake_rate")._value.get() == 0
        for number in range(20):
            await is_greeted(wire, sent=handshake(x_forwarded_for=f"198.51.100.{number}"))


@pytest.mark.parametrize(
    "sent", [handshake(), PLAIN, b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"]
)
@pytest.mark.parametrize("trusted", [True, False])
async def test_every_kind_of_request_counts_for_its_address(trusted: bool, sent: bytes) -> None:
    """R5, R7: only handshakes were counted."""
    forwarded = sent[:-2] + b"X-Forwarded-For: 192.0.2.1\r\n\r\n"

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    options: dict[str, Any] = {"application": refuse, "max_sockets_per_address": 5}
    async with layer("push", **options, **({} if trusted else {"trusted_proxies": ""})) as wire:
        answers = [await answered(wire, forwarded if trusted else sent) for _ in range(8)]
        assert {status for status, _error in answers[:5]} == {403}
        assert answers[5:] == [(503, "address_rate")] * 3
        status, _error = await answered(wire, handshake(), GOOD)
        assert status == 403


async def test_livez_is_answered_above_the_handshake_rate(kind: str) -> None:
    async with layer(kind, max_handshakes=0.01) as wire:
        assert (await answered(wire, PLAIN))[1] == "handshake_rate"
        async with raw(wire.port) as client:
            await client.send(PLAIN.replace(b"/ws", b"/livez"))
            assert (await client.answer())[0] == 404  # this layer has none


@pytest.mark.parametrize(
    "form", ["203.0.113.7:{n}", "203.0.113.7", "203.0.113.7,", "203.0.113.7 , ,", "6.6.6.{n}, 203.0.113.7:80"]
)
async def test_all_spellings_of_an_address_share_one_limit(kind: str, form: str) -> None:
    """R8: an address followed by a port or a comma had no limit."""
    async with layer(kind, max_sockets_per_address=3) as wire, AsyncExitStack() as stack:
        for number in range(3):
            sent = handshake(x_forwarded_for=form.format(n=number + 1))
            await stack.enter_async_context(raw(wire.port, sent))
        assert await answered(wire, handshake(x_forwarded_for=form.format(n=9))) == (503, "address_full")
        await is_greeted(wire, sent=handshake(x_forwarded_for="203.0.113.8"))


@pytest.mark.parametrize("header", ["unknown", "_hidden", "", "203.0.113.013", "203.0.113.7, unknown"])
async def test_unreadable_addresses_share_one_limit_and_are_logged(
    header: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with layer("push", max_sockets_per_address=1) as wire, AsyncExitStack() as stack:
        for _ in range(UNREADABLE_SHARE):
            await stack.enter_async_context(raw(wire.port, handshake(x_forwarded_for=header)))
        assert await answered(wire, handshake(x_forwarded_for=header)) == (503, "address_full")
        await is_greeted(wire, sent=handshake(x_forwarded_for="203.0.113.7"))
    lines = [record for record in caplog.records if "forwards no address" in record.getMessage()]
    assert [(line.__dict__["peer"], line.__dict__["x_forwarded_for"]) for line in lines] == [(BAD, header)]


def test_connections_without_a_forwarded_address_share_one_limit(caplog: pytest.LogCaptureFixture) -> None:
    limiter = make_limiter(trusted_proxies="10.0.0.0/8", max_sockets_per_address=1)
    for number in range(UNREADABLE_SHARE):
        limiter.acquire(limiter.client(f"10.0.0.{number}", []), 1.0)
    with pytest.raises(LimitExceeded):
        limiter.acquire(limiter.client("10.0.0.99", []), 1.0)
    assert ["forwards no address" in record.getMessage() for record in caplog.records] == [True, False]
    assert caplog.records[1].__dict__["address"] == UNREADABLE


async def test_a_full_address_that_sends_forwarded_addresses_is_logged_as_an_untrusted_proxy(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """CASES 37: behind such a proxy 500 users were accepted, all others refused, and nothing was logged."""
    async with layer(kind, trusted_proxies="10.0.0.0/8", max_sockets_per_address=3) as wire, AsyncExitStack() as stack:
        for number in range(3):
            sent = handshake(x_forwarded_for=f"192.0.2.{number}")
            await stack.enter_async_context(raw(wire.port, sent))
    lines = [record for record in caplog.records if "RELAY_TRUSTED_PROXIES" in record.getMessage()]
    assert [(line.levelname, line.__dict__["peer"]) for line in lines] == [("WARNING", BAD)]


async def test_refused_addresses_are_told_once_a_minute(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """CASES 37: a full proxy that is not trusted is refused before its head could tell who it forwards."""
    async with layer(kind, trusted_proxies="10.0.0.0/8", max_sockets_per_address=2) as wire, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(raw(wire.port, handshake()))
        for number in range(5):
            assert await answered(wire, handshake(x_forwarded_for=f"192.0.2.{number}")) == (503, "address_full")
    (line,) = [record for record in caplog.records if record.name == "relay.limits"]
    assert "RELAY_MAX_SOCKETS_PER_ADDRESS" in line.getMessage()
    assert "RELAY_TRUSTED_PROXIES" in line.getMessage()
    assert line.__dict__["address"] == BAD


async def test_refusals_for_all_are_told_once_a_minute(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async with layer(kind, max_handshakes=0.01) as wire:
        for _ in range(3):
            assert await answered(wire, PLAIN) == (503, "handshake_rate")
        wire.limiter.capacity = 0
        for _ in range(3):
            assert await answered(wire, PLAIN) == (503, "full")
    lines = [record.getMessage() for record in caplog.records if record.name == "relay.limits"]
    assert [next(name for name in ("MAX_HANDSHAKES", "MAX_SOCKETS") if name in line) for line in lines] == [
        "MAX_HANDSHAKES", "MAX_SOCKETS",
    ]  # fmt: skip


def test_the_addresses_of_one_network_share_a_limit() -> None:
    """R8: a /48 has 65,536 networks of 64 bits, each with a limit of its own."""
    limiter = make_limiter(trusted_proxies="", max_sockets_per_address=2)
    usages = [limiter.acquire(f"2001:db8:0:{number:x}::1", 1.0) for number in range(NETWORK_SHARE * 2)]
    with pytest.raises(LimitExceeded, match="address_full"):
        limiter.acquire("2001:db8:0:ffff::1", 1.0)
    limiter.acquire("2001:db8:1::1", 1.0)
    usages[0].release()
    with pytest.raises(LimitExceeded, match="address_rate"):  # as for one address: places and rate
        limiter.acquire("2001:db8:0:ffff::1", 1.0)
    assert limiter.acquire("2001:db8:0:ffff::1", 20.0).count == 1


async def test_a_connection_is_released_from_its_limits_however_it_ends(kind: str) -> None:
    async with layer(kind, trusted_proxies="", max_sockets_per_address=50) as wire:
        usage = wire.limiter.acquire(BAD, 0.0)
        for sent in [b"", PLAIN[:9], PLAIN, handshake(), handshake("/x"), b"\x16", handshake("*"), PLAIN + PLAIN]:
            async with raw(wire.port, source=BAD) as client:
                await client.send(sent)
                if sent not in (b"", PLAIN[:9]):
                    await client.answer()
        await wait_until(lambda: usage.count == 1)
        assert wire.limiter._refused.count == 0


# ---- the user


def test_requests_of_a_user_above_the_rate_wait() -> None:
    limiter, user = UserLimiter(), uuid4()
    assert [limiter.wait(user, 5.0) for _ in range(int(QUESTION_BURST))] == [0.0] * int(QUESTION_BURST)
    wait = limiter.wait(user, 5.0)
    assert wait == pytest.approx(1 / QUESTION_RATE)
    assert limiter.wait(uuid4(), 5.0) == 0.0
    assert limiter.wait(user, 5.0 + wait) == 0.0
    assert limiter.wait(user, 5.0 + wait) > 0.0


def test_limits_of_idle_users_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.public.limits.MAX_USERS", 100)
    limiter, user = UserLimiter(), uuid4()
    for _ in range(1000):
        limiter.wait(uuid4(), 1.0)
    assert len(limiter._buckets) == 100
    limiter.wait(user, 100.0)
    assert list(limiter._buckets) == [user]


async def test_a_user_polling_too_fast_gets_429_and_another_user_joins(
    start_relay: StartRelay, db: Connection, user: UUID
) -> None:
    """R5: 600 small requests a second of one user made all other users wait."""
    relay = await start_relay()
    headers = {"Authorization": f"Bearer {make_token(user)}"}
    answers: list[httpx.Response] = []

    async def poll(client: httpx.AsyncClient) -> None:
        while not is_over.is_set():
            answers.append(await client.get(relay.http("/events"), headers=headers))

    is_over = asyncio.Event()
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=20)) as client:
        polling = [asyncio.create_task(poll(client)) for _ in range(20)]
        await wait_until(lambda: len(answers) > 2 * QUESTION_BURST)
        for _ in range(5):
            started = time.monotonic()
            async with relay.peer(uuid4()) as other:
                assert other.frames[0]["type"] == "hello"
            assert time.monotonic() - started < 1
        is_over.set()
        await asyncio.gather(*polling)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert len(refused) > len(answers) / 2
    assert refused[0].json()["error"] == "user_rate"
    assert 0 < refused[0].json()["retryAfterMs"] <= int(refused[0].headers["retry-after"]) * 1000


async def test_a_user_polling_within_the_rate_is_always_answered(start_relay: StartRelay, user: UUID) -> None:
    """R11: a kept connection was cut after 30 s, in the middle of an answer."""
    relay = await start_relay()
    headers = {"Authorization": f"Bearer {make_token(user)}"}
    async with httpx.AsyncClient(headers=headers) as client:
        for _ in range(int(QUESTION_BURST)):
            answer = await client.get(relay.http("/events"))
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")


# ---- origins


async def test_a_refused_origin_is_logged_once(
    start_relay: StartRelay, user: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    """CASES 8: behind a proxy that does not pass on Host nothing was logged."""
    relay = await start_relay()
    assert relay.relay.bind
    sent = handshake(origin="https://chat.example:8443", host="chat.example")
    for _ in range(3):
        async with raw(relay.relay.bind[1]) as client:
            await client.send(sent)
            assert (await client.answer())[0] == 403
    lines = [record for record in caplog.records if record.name == "relay.origin"]
    assert [(line.__dict__["origin"], line.__dict__["host"]) for line in lines] == [
        ("https://chat.example:8443", "chat.example")
    ]


def test_a_repeated_message_is_logged_once_a_minute_with_a_count(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    limited = RateLimitedLogger(logging.getLogger("relay.test"), clock=lambda: now[0])
    for second in range(0, 150, 10):
        now[0] = float(second)
        limited.warning("a cause", peer=second)
    limited.warning("another cause", peer=7)
    said = [(line.getMessage(), line.__dict__["peer"], line.__dict__["left_out"]) for line in caplog.records]
    assert said == [("a cause", 0, 0), ("a cause", 60, 5), ("a cause", 120, 5), ("another cause", 7, 0)]
