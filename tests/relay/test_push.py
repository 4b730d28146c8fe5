"""The push protocol: its parser exists only within messages; after a failed self-test the stock protocol serves."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.metrics import Metrics
from relay.settings import Settings
from relay.websocket.handshake import HandshakeProtocol
from relay.websocket.limits import ConnectionLimiter
from relay.websocket.parser import MessageParser, is_pong
from relay.websocket.push import PushProtocol
from relay.websocket.selftest import run_selftest
from relay.websocket.stock import StockProtocol
from tests.helpers import wait_until
from tests.relay.raw_client import CONT, PING, PONG, TEXT, frame, handshake, layer, raw

if TYPE_CHECKING:
    from uuid import UUID

    from tests.conftest import Connection
    from tests.relay.conftest import StartRelay

TEXTS = st.text(max_size=150).map(lambda text: [(frame(TEXT, text.encode()), [text])])
SPLIT = st.text(min_size=1, max_size=40).map(
    lambda text: [
        (frame(TEXT, text.encode()[:3], fin=False), []),
        (frame(PING, b"p"), []),
        (frame(CONT, text.encode()[3:]), [text]),
    ]
)
CONTROL: st.SearchStrategy[Any] = st.binary(max_size=125).flatmap(
    lambda data: st.sampled_from([[(frame(PING, data), [])], [(frame(PONG, data), [])]])
)


@given(st.lists(TEXTS | SPLIT | CONTROL, max_size=6), st.lists(st.integers(1, 40), min_size=1))
def test_the_parser_is_idle_exactly_between_messages(messages: Any, pieces: list[int]) -> None:
    wire = b"".join(data for message in messages for data, _texts in message)
    ends, at, open_message = {0}, 0, False
    for message in messages:
        for index, (data, _texts) in enumerate(message):
            at += len(data)
            open_message = index < len(message) - 1
            if not open_message:
                ends.add(at)
    reader, got, at, turn = MessageParser(), [], 0, 0
    while at < len(wire):
        piece = wire[at : at + pieces[turn % len(pieces)]]
        turn += 1
        got += [message["text"] for message in reader.feed(piece)]
        at += len(piece)
        reader.reply()
        assert not reader.is_over
        assert reader.is_idle == (at in ends)
    assert got == [text for message in messages for _data, texts in message for text in texts]


@given(st.binary(max_size=140) | st.binary(max_size=130).map(lambda data: frame(PONG, data[:125])))
def test_a_pong_recognised_without_a_parser_is_one_that_the_parser_ignores(data: bytes) -> None:
    if is_pong(data):
        reader = MessageParser()
        assert reader.feed(data) == []
        assert reader.reply() == b""
        assert reader.is_idle
        assert not reader.is_over


async def test_a_client_that_only_listens_has_no_parser() -> None:
    async with layer("push") as wire, raw(wire.port, handshake()) as client:
        push: Any = wire.transports[0]
        await client.send(frame(TEXT, b"a", fin=False))
        await wait_until(lambda: push._parser is not None)
        await client.send(frame(CONT, b"b"))
        assert await client.frames(1) == [(TEXT, b"ab")]
        assert push._parser is None
        assert push._cycle is None
        await client.send(frame(PONG))
        await client.send(frame(PING))
        assert await client.frames(1) == [(PONG, b"")]
        assert push._parser is None


@pytest.fixture
def handshake_protocol() -> Any:
    values = Settings(dsn="postgresql://x/x", jwt_secret="s" * 32)  # type: ignore[arg-type]
    return functools.partial(HandshakeProtocol, ConnectionLimiter(values), Metrics())


@pytest.mark.parametrize("kind", [PushProtocol, StockProtocol])
async def test_the_selftest_passes(kind: type, handshake_protocol: Any) -> None:
    await run_selftest(handshake_protocol, kind)


@pytest.mark.parametrize("method", ["start", "accept", "write", "close", "_parse", "connection_lost"])
async def test_the_selftest_fails_for_each_broken_method(
    method: str, handshake_protocol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.websocket.selftest.SECONDS", 0.5)
    monkeypatch.setattr(PushProtocol, method, lambda *_arguments: None)
    with pytest.raises(Exception):  # noqa: B017, PT011 - any will do
        await run_selftest(handshake_protocol, PushProtocol)
    # What a broken kind leaves open. On Python 3.11.2 it would warn when it is collected, in a test that follows.
    for transport in list(asyncio.get_running_loop()._transports.values()):  # type: ignore[attr-defined]
        transport.abort()
    await asyncio.sleep(0)


async def test_a_relay_whose_selftest_fails_serves_stock_and_logs_it_once(
    start_relay: StartRelay,
    user: UUID,
    db: Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("relay.websocket.selftest.SECONDS", 0.5)
    monkeypatch.setattr(PushProtocol, "accept", lambda *_arguments: None)
    relay = await start_relay()
    assert relay.relay.public.config.ws is StockProtocol
    assert [record.name for record in caplog.records if record.levelno == logging.ERROR] == ["relay.kinds"]
    async with relay.peer(user) as peer:
        assert peer.frames[0]["type"] == "hello"


@pytest.mark.parametrize(("sockets", "expected"), [("push", PushProtocol), ("stock", StockProtocol)])
async def test_the_setting_selects_the_kind_of_websocket(start_relay: StartRelay, sockets: str, expected: type) -> None:
    assert (await start_relay(sockets=sockets)).relay.public.config.ws is expected


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"{}"),
        frame(TEXT, b"{}")[:-1],
        frame(TEXT, b"\xff\xff"),
        frame(TEXT, b"x" * 5000),
        frame(8, b"\x03\xe8"),
        frame(8, b"x"),
        b"\xff\xff",
    ],
)
def test_a_dropped_parser_is_freed_without_the_collector(data: bytes) -> None:
    gc.disable()
    try:
        reader = MessageParser()
        reader.feed(data)
        parser = weakref.ref(reader._parser)
        reader.drop()
        del reader
        assert parser() is None
    finally:
        gc.enable()
