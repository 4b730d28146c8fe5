"""Hostile clients on raw sockets: slow heads, floods, too many connections; each is answered or cut, the others are not affected."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import resource
import socket
from typing import TYPE_CHECKING, Any

import pytest

from relay.settings import Settings
from relay.websocket.flow_control import CREDIT, MAX_BUFFERED
from relay.websocket.kinds import KINDS
from relay.websocket.limits import BURST_SECONDS, ConnectionLimiter, allow_descriptors, subnet
from relay.websocket.server import log_descriptor_exhaustion
from tests.helpers import wait_until
from tests.relay.raw_client import CLOSE, CONT, PING, TEXT, Layer, frame, handshake, layer, raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def wire(kind: str) -> AsyncIterator[Layer]:
    async with layer(kind) as one:
        yield one


async def test_a_late_head_is_answered_with_408_and_a_silent_connection_is_cut(
    wire: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.websocket.handshake.HEAD_SECONDS", 0.2)
    async with raw(wire.port) as slow, raw(wire.port) as silent:
        await slow.send(handshake()[:-10])
        status, headers = await slow.answer()
        assert (status, await slow.json(headers)) == (408, {"error": "late"})
        assert await slow.reader.read() == b""
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await silent.reader.readexactly(1)


async def test_a_client_that_sends_a_head_too_long_receives_431(wire: Layer) -> None:
    async with raw(wire.port) as client:
        await client.send(handshake(x="x" * 100_000))
        assert (await client.answer())[0] == 431


@pytest.mark.parametrize(
    "flood",
    [frame(PING, b"x") * 5000, frame(TEXT, b"{}") * 5000, frame(TEXT, fin=False) + frame(CONT, fin=False) * 20_000],
    ids=["pings", "messages", "empty fragments"],
)
async def test_a_flood_closes_only_the_connection_that_sends_it(wire: Layer, flood: bytes) -> None:
    async with raw(wire.port, handshake()) as bad, raw(wire.port, handshake()) as good:
        reading = asyncio.create_task(bad.frames())
        await bad.send(flood)
        await bad.send(flood)
        frames = await reading
        if frames and frames[-1][0] == CLOSE:
            assert json.loads(frames[-1][1][2:])["retryAfterMs"]
        await good.send(frame(TEXT, b"still here"))
        assert await good.frames(1) == [(TEXT, b"still here")]


async def test_the_acknowledgements_of_a_replay_are_not_a_flood(wire: Layer) -> None:
    async with raw(wire.port, handshake()) as client:
        ack = frame(TEXT, b'{"type":"ack","cursor":"abcdefgh-123456"}')
        await client.send(ack * 500)
        assert len(await client.frames(500)) == 500


async def test_a_client_that_does_not_read_buffers_a_bounded_amount(wire: Layer) -> None:
    async with raw(wire.port, handshake()) as stuck, raw(wire.port, handshake()) as good:
        stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
        transport, other = wire.transports
        most = 0
        while transport.write(b"\x81\x7e\x10\x00" + b"x" * 4096):
            most = max(most, transport.buffered())
        assert 0 < most <= MAX_BUFFERED
        assert other.write(b"\x81\x01y")
        assert await good.frames(1) == [(TEXT, b"y")]
        await wait_until(lambda: wire.gone == 1)


async def test_aborted_clients_are_removed(wire: Layer) -> None:
    for _ in range(20):
        async with raw(wire.port, handshake()) as client:
            client.writer.transport.abort()
    await wait_until(lambda: wire.gone == 20)


async def test_a_closed_client_that_never_answers_is_cut(wire: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.websocket.push.CLOSE_SECONDS", 0.2)
    monkeypatch.setattr("relay.websocket.stock.CLOSE_SECONDS", 0.2)
    async with raw(wire.port, handshake()) as client:
        wire.transports[0].close(4000, "{}")
        assert await client.frames() == [(CLOSE, b"\x0f\xa0{}")]
        await wait_until(lambda: not wire.state.connections)


# ---- many connections


async def refused(port: int, **headers: Any) -> tuple[int, Any]:
    async with raw(port) as client:
        await client.send(handshake(**headers))
        status, given = await client.answer()
        return (status, None) if status == 101 else (status, await client.json(given) | {"after": given["retry-after"]})


async def test_an_address_above_its_limit_is_refused(kind: str) -> None:
    async with layer(kind, trusted_proxies="", max_sockets_per_address=3) as wire:
        async with raw(wire.port, handshake()), raw(wire.port, handshake()), raw(wire.port, handshake()):
            status, body = await refused(wire.port)
            assert (status, body["error"]) == (503, "address_full")
            assert body["retryAfterMs"] <= int(body["after"]) * 1000
        await wait_until(lambda: not wire.state.connections)
        assert (await refused(wire.port))[1]["error"] == "address_rate"  # three connections before


async def test_handshakes_above_the_rate_are_refused_with_different_retry_times(kind: str) -> None:
    async with layer(kind, max_handshakes=1) as wire:
        answers = [await refused(wire.port) for _ in range(int(BURST_SECONDS) + 5)]
        late = [body["retryAfterMs"] for status, body in answers if status == 503 and body["error"] == "handshake_rate"]
        assert len(late) >= 4
        assert len(set(late)) > 1


async def test_a_connection_above_the_capacity_is_refused(kind: str) -> None:
    async with layer(kind) as wire:
        wire.limiter.capacity = 2
        async with raw(wire.port, handshake()), raw(wire.port, handshake()), raw(wire.port) as third:
            status, headers = await third.answer()  # before it has sent anything
            assert (status, (await third.json(headers))["error"]) == (503, "full")


async def test_behind_a_trusted_proxy_the_forwarded_address_is_limited(kind: str) -> None:
    async with layer(kind, max_sockets_per_address=1) as wire, raw(wire.port, handshake(x_forwarded_for="192.0.2.1")):
        assert (await refused(wire.port, x_forwarded_for="192.0.2.1"))[1]["error"] == "address_full"
        assert (await refused(wire.port, x_forwarded_for="6.6.6.6, 192.0.2.1, 127.0.0.9"))[1]["error"] == "address_full"
        assert (await refused(wire.port, x_forwarded_for="192.0.2.1, 192.0.2.2"))[0] == 101
        assert (await refused(wire.port))[0] == 101  # an address without a forwarded one is not limited as 192.0.2.1


def make_limiter(**values: Any) -> ConnectionLimiter:
    return ConnectionLimiter(Settings(dsn="postgresql://x/x", jwt_secret="s" * 32, **values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.1", [b"192.0.2.1"], "203.0.113.1"),  # any client can send the header
        ("127.0.0.1", [], "127.0.0.1"),  # development: no proxy
        ("::1", [], "::1"),
        ("127.0.0.1", [b""], None),
        ("10.0.0.1", [], None),
        ("10.0.0.1", [b""], None),
        ("10.0.0.1", [b" , "], None),
        ("10.0.0.1", [b"192.0.2.1"], "192.0.2.1"),
        ("::ffff:10.0.0.1", [b"192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", [b"6.6.6.6", b"192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", [b"10.9.9.9"], "10.9.9.9"),
        *[
            ("10.0.0.1", [hop], "203.0.113.7")
            for hop in (b"203.0.113.7:1234", b"203.0.113.7,", b"203.0.113.7 \t,, ")
        ],
        *[("10.0.0.1", [hop], "2001:db8::1") for hop in (b"2001:db8::1", b"[2001:db8::1]", b"[2001:db8::1]:443")],
        ("10.0.0.1", [b"6.6.6.6, 203.0.113.7:1, 10.0.0.2:99"], "203.0.113.7"),
        *[
            ("10.0.0.1", [hop], None)
            for hop in (
                b"nonsense", b"unknown", b"_hidden", b"203.0.113.013", b"192.0.2.1, \xff", b"unknown, 10.0.0.2",
                b"[203.0.113.7", b"203.0.113.7:x", b"1.2.3.4:5:6", b"[]:1", b"\"192.0.2.1\"",
            )
        ],
    ],
)  # fmt: skip
def test_the_client_is_the_last_address_that_is_not_a_trusted_proxy(
    peer: str, forwarded: list[bytes], client: str | None
) -> None:
    assert make_limiter(trusted_proxies="10.0.0.0/8,127.0.0.0/8,::1/128").client(peer, forwarded) == client


def test_an_ipv6_network_of_64_bits_is_one_address() -> None:
    assert subnet("2001:db8:1:2:3::4") == subnet("2001:db8:1:2:ffff::1") != subnet("2001:db8:1:3::1")
    assert subnet("::ffff:192.0.2.1") == subnet("192.0.2.1") != subnet("192.0.2.2")


def test_limits_of_idle_addresses_are_dropped() -> None:
    limiter = make_limiter(max_sockets_per_address=2, trusted_proxies="")
    for number in range(50):
        limiter.acquire(f"192.0.2.{number}", 1.0).release()
    stays = limiter.acquire("192.0.2.200", 1.0)
    limiter.acquire("192.0.2.201", 100.0)
    assert len(limiter._usages) == 2
    stays.release()


def test_a_network_is_kept_as_long_as_its_addresses() -> None:
    limiter = make_limiter(max_sockets_per_address=2, trusted_proxies="")
    stays = limiter.acquire("2001:db8::1", 1.0)
    limiter.acquire("2001:db8:0:1::1", 1.0).release()
    limiter.acquire("192.0.2.1", 100.0)
    assert set(limiter._usages) == {"2001:db8::/64", "2001:db8::/48", "192.0.2.1"}
    stays.release()
    limiter.acquire("192.0.2.1", 200.0)
    assert set(limiter._usages) == {"192.0.2.1"}


# ---- file descriptors


def test_the_descriptor_limit_is_raised_up_to_the_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _what: limits[0])
    monkeypatch.setattr(resource, "setrlimit", lambda _what, wanted: limits.__setitem__(0, wanted))
    assert allow_descriptors(500) == 500
    assert (allow_descriptors(3000), limits[0]) == (3000, (3000, 4096))
    assert (allow_descriptors(9000), limits[0]) == (4096, (4096, 4096))


async def test_without_free_descriptors_the_relay_logs_it_and_accepts_later(
    wire: Layer, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.get_running_loop().set_exception_handler(log_descriptor_exhaustion)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = [socket.socket() for _ in range(10)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (clients[-1].fileno() + 1, before[1]))
        for client in clients:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", wire.port))
        await wait_until(lambda: "out of file descriptors" in caplog.text)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        async with raw(wire.port, handshake()) as late:  # asyncio tries again after a second
            await late.send(frame(TEXT, b"in"))
            assert await late.frames(1) == [(TEXT, b"in")]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for client in clients:
            client.close()
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR].count("relay.server") <= 3


async def test_other_loop_errors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    handler = log_descriptor_exhaustion
    handler(asyncio.get_running_loop(), {"message": "lost", "exception": OSError(errno.EPIPE, "x")})
    assert "lost" in caplog.text


def test_the_receive_credit_covers_a_replays_acknowledgements_and_stays_below_one_mib() -> None:
    assert 500 * (64 + 90) < CREDIT < 1 << 20
