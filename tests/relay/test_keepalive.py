"""The check of each second with time as an argument: pings, silent clients, expiring tokens, joins that hang."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from relay.auth import Identity
from relay.delivery.connection import Connection
from relay.delivery.hub import Hub
from relay.delivery.receipts import Receipts
from relay.metrics import Metrics
from relay.settings import Settings
from relay.websocket import keepalive
from relay.websocket.keepalive import Keepalive
from tests.relay.test_joining import FakeTransport, answer, identity, page


class Sweep:
    """A hub with one client, and the keepalive under test."""

    def __init__(self, user: UUID, expires_at: float | None = None, *, joined: bool = True, **options: Any) -> None:
        self.metrics = Metrics()
        self.hub = Hub("n", self.metrics, Receipts(self.metrics))
        settings = Settings(dsn="postgresql://x/x", jwt_secret="s" * 32, **options)  # type: ignore[arg-type]
        self.keepalive = Keepalive(settings, self.hub, self.metrics, lambda: None)
        self.transport = FakeTransport()
        self.hub.take(page("A"))
        who = identity(user) if expires_at is None else Identity(user, identity(user).issued_at, expires_at)
        self.socket: Connection = self.hub.join(who, self.transport, None, 0.0)
        if joined:
            self.hub._answer(self.socket, answer("A", 0, start="fresh"))

    def at(self, now: float, wall: float | None = None) -> None:
        self.keepalive.check(self.hub.connections(), now, wall if wall is not None else time.time())


@pytest.fixture
async def sweep() -> Sweep:
    return Sweep(uuid4())


async def test_a_client_is_pinged_every_twenty_seconds_and_cut_when_silent(sweep: Sweep) -> None:
    sweep.at(19)
    assert "ping" not in sweep.transport.kinds
    sweep.at(20)
    assert sweep.transport.kinds[-1] == "ping"
    sweep.transport.received_at = 20.5
    sweep.at(21)
    assert sweep.transport.kinds.count("ping") == 1
    sweep.at(40)
    assert sweep.transport.kinds.count("ping") == 2
    sweep.at(60)  # nothing received since 40
    assert sweep.transport.closed == 1006
    assert sweep.hub.count == 0
    assert sweep.metrics.silent._value.get() == 1


async def test_a_client_that_was_not_pinged_is_not_cut_as_silent(sweep: Sweep) -> None:
    sweep.transport.received_at = -0.1  # its token arrived just before it joined; nothing has arrived since
    sweep.at(20.2)
    assert sweep.transport.is_open
    assert sweep.transport.kinds[-1] == "ping"
    sweep.at(40.4)
    assert sweep.transport.closed == 1006


async def test_a_join_without_an_answer_for_five_seconds_is_closed_with_1013() -> None:
    sweep = Sweep(uuid4(), joined=False)
    sweep.at(4.9)
    assert sweep.transport.is_open
    sweep.at(5.1)
    assert sweep.transport.closed == 1013
    assert sweep.hub.count == 0


async def test_a_client_that_is_reattached_is_not_closed(sweep: Sweep) -> None:
    sweep.hub.attach_afresh()
    sweep.transport.received_at = 1000.0
    sweep.at(1000)
    assert sweep.transport.is_open


async def test_an_expiring_token_is_announced_and_closed_after_a_grace_period() -> None:
    sweep = Sweep(uuid4(), expires_at=1000.0)
    sweep.at(1, 939)
    assert "auth_expiring" not in sweep.transport.kinds
    sweep.at(2, 941)
    sweep.at(3, 950)
    assert sweep.transport.kinds.count("auth_expiring") == 1
    assert sweep.transport.frames[-1]["inSeconds"] == 59
    sweep.at(4, 1009)
    assert sweep.transport.is_open
    sweep.at(5, 1011)
    assert sweep.transport.closed == 4401


async def test_no_ping_and_no_auth_expiring_are_sent_before_hello() -> None:
    """The first frame is hello."""
    sweep = Sweep(uuid4(), expires_at=1000.0, joined=False, ping_seconds=1)
    sweep.at(4.9, 990)
    assert sweep.transport.kinds == []
    sweep.hub._start(sweep.hub.connections()[0], answer("A", 0, start="fresh"))
    sweep.at(4.95, 990)
    sweep.at(4.99, 990)
    assert sweep.transport.kinds == ["hello", "ping", "auth_expiring"]


async def test_garbage_is_collected_after_as_many_leaves_as_there_are_clients(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    collections: list[int] = []
    monkeypatch.setattr(keepalive, "gc", SimpleNamespace(collect=lambda: collections.append(sweep.hub.left)))
    staying = [sweep.hub.join(identity(uuid4()), FakeTransport(), None, 0.0) for _ in range(599)]
    for _ in range(1300):
        sweep.hub.leave(sweep.hub.join(identity(uuid4()), FakeTransport(), None, 0.0))
        sweep.keepalive._collect()
    assert collections == [601, 1202]  # as many as there are clients, plus one
    assert len(staying) + 1 == sweep.hub.count


async def test_a_client_that_takes_no_waiting_bytes_is_closed_with_4008(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, taken = 1000, 0
    monkeypatch.setattr(sweep.transport, "buffered", lambda: waiting)
    monkeypatch.setattr(sweep.transport, "drained", lambda: taken)
    sweep.at(1)
    sweep.at(8)
    taken = 10
    sweep.at(9)
    sweep.at(17)
    assert sweep.transport.is_open
    sweep.at(17.5)
    assert sweep.transport.closed == 4008
    assert sweep.metrics.closed.labels("4008")._value.get() == 1
    assert sweep.metrics.slow._value.get() == 1
