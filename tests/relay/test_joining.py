"""P3 while clients join: no event is lost, reordered or sent twice, whatever commits meanwhile and whichever server answers."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from relay import frames
from relay.auth import Identity
from relay.database.listener import Listener
from relay.delivery import hub
from relay.delivery.attach import MAX_BATCH
from relay.delivery.hub import Hub
from relay.delivery.receipts import Receipts
from relay.metrics import Metrics
from relay.records import AttachResult, Block, Cursor, Event, Page, parse_cursor
from tests.helpers import wait_until
from tests.relay.conftest import Running, StartRelay, cursors, expire, warn

if TYPE_CHECKING:
    from relay.delivery.connection import Connection as Client
    from relay.delivery.connection import Handler
    from relay.records import Cursor
    from tests.conftest import Connection, Instance


class FakeTransport:
    """Records the frames written and the close code."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.closed: int | None = None
        self.received_at = 0.0
        self.credit = 0
        self.is_slow = False

    def write(self, frame: bytes, cursor: Cursor | None = None) -> bool:
        if self.closed is None:
            self.frames.append(json.loads(frames.payload(frame)))
        return self.closed is None

    def ping(self, frame: bytes) -> None:
        self.write(frame)

    async def set_handler(self, handler: Handler, connection: Client) -> None: ...

    def close(self, code: int, reason: str) -> None:
        self.closed = code

    def abort(self) -> None:
        self.closed = 1006

    def buffered(self) -> int:
        return 0

    def drained(self) -> int:
        return 0

    @property
    def is_open(self) -> bool:
        return self.closed is None

    @property
    def events(self) -> list[str]:
        return [frame["cursor"] for frame in self.frames if ":" in frame["type"]]

    @property
    def kinds(self) -> list[str]:
        return [frame["type"] for frame in self.frames]


def now() -> float:
    """Loop time, as a client that joined at 0 would be closed for want of a hello."""
    return asyncio.get_running_loop().time()


def identity(user: UUID) -> Identity:
    return Identity(user, datetime.now(UTC), time.time() + 3600)


# ---- real database, real listener, many joins


async def test_many_joins_during_concurrent_writes_lose_and_repeat_no_event(
    relay: Running, db: Connection, instance: Instance
) -> None:
    """Each user's client connects again and again with its cursor; together its connections get every event once, in order."""
    users = [uuid4() for _ in range(40)]
    got: dict[UUID, list[str]] = defaultdict(list)
    joins = 0
    writing = True

    async def write() -> None:
        connection = await asyncpg.connect(instance.dsn())
        try:
            while writing:
                await connection.execute(
                    "insert into public.after_hours_sessions (user_id, started_at, expires_at)"
                    " select u, now() - interval '1 hour', now() - interval '1 second' from unnest($1::uuid[]) as u",
                    random.choices(users, k=random.randint(1, 12)),
                )
                await connection.fetch("select after_hours.announce_due()")
        finally:
            await connection.close()

    async def come_and_go(user: UUID) -> None:
        nonlocal joins
        cursor: str | None = "aaaaaaaa-0"
        while writing:
            transport = FakeTransport()
            socket = relay.relay.hub.join(identity(user), transport, parse_cursor(cursor), now())
            if random.random() < 0.5:
                await wait_until(lambda socket=socket: socket.has_hello)  # type: ignore[misc]
            await asyncio.sleep(random.random() * 0.02)
            relay.relay.hub.leave(socket)
            joins += 1
            assert "reset" not in transport.kinds
            got[user] += transport.events
            cursor = socket.cursor

    tasks = [asyncio.create_task(write()) for _ in range(2)]
    tasks += [asyncio.create_task(come_and_go(user)) for user in users]
    await asyncio.sleep(3)
    writing = False
    await asyncio.gather(*tasks)
    rows = db.execute("select user_id, epoch || '-' || id as cursor from after_hours.events order by id").fetchall()
    sent = defaultdict(list)
    for row in rows:
        sent[row.user_id].append(row.cursor)
    assert joins > 500
    assert len(rows) > 500
    for user in users:
        assert got[user] == sent[user][: len(got[user])]
        # events after the last connection are still to be replayed
        transport = FakeTransport()
        socket = relay.relay.hub.join(identity(user), transport, parse_cursor((got[user] or ["aaaaaaaa-0"])[-1]), now())
        await wait_until(lambda socket=socket: socket.has_hello)  # type: ignore[misc]
        assert got[user] + transport.events == sent[user]


async def test_an_event_and_a_trim_committed_during_an_attach_leave_no_gap(
    start_relay: StartRelay, db: Connection, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is of the snapshot before; the event is read from the log, held, and sent after hello."""
    original = Listener.attach
    answered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(self: Listener, asks: Any) -> Any:
        answers = await original(self, asks)
        answered.set()
        await go_on.wait()
        return answers

    monkeypatch.setattr(Listener, "attach", slow)
    running = await start_relay()
    expire(db, user, user)
    first, second = cursors(db)
    await wait_until(lambda: running.relay.hub.cursor == second)
    transport = FakeTransport()
    running.relay.hub.join(identity(user), transport, parse_cursor(first), now())
    async with asyncio.timeout(5):
        await answered.wait()
    expire(db, user)
    third = cursors(db)[2]
    db.execute("delete from after_hours.events where id <= 2")
    db.execute("update after_hours.event_floor set id = 2")
    await wait_until(lambda: running.relay.hub.cursor == third)
    assert transport.frames == []
    go_on.set()
    await wait_until(lambda: len(transport.frames) == 3)
    assert transport.kinds[0] == "hello"
    assert transport.events == [second, third]


# ---- the hub alone: answers and pages made by hand


def event(user: UUID, id_: int, epoch: str = "aaaaaaaa") -> Event:
    now = datetime.now(UTC)
    text = json.dumps({"type": "after_hours:x", "id": str(uuid4()), "cursor": f"{epoch}-{id_}"})
    return Event(id_, uuid4(), user, Cursor(f"{epoch}-{id_}"), frames.text_frame(text), now, now)


def page(incarnation: str, *events: Event, start: str = "replayed", cursor: str = "c") -> Page:
    return Page(incarnation, start, Cursor(cursor), False, list(events))


def answer(
    incarnation: str, head: int, *events: Event, start: str = "replayed", cursor: str = "aaaaaaaa-0"
) -> AttachResult:
    state = f'{{"start":"{start}","cursor":"{cursor}","serverTime":"","sessions":[]}}'
    return AttachResult(incarnation, head, start, Cursor(cursor), state, None, list(events))


class Bench:
    """A hub for which the test answers the calls of relay_attach."""

    def __init__(self) -> None:
        metrics = Metrics()
        self.hub = Hub("n", metrics, Receipts(metrics))
        self.asked: asyncio.Queue[tuple[list[Any], asyncio.Future[list[AttachResult]]]] = asyncio.Queue()
        self.task = asyncio.create_task(self.hub.attach_forever(self._attach))

    async def _attach(self, asks: list[Any]) -> list[AttachResult]:
        given: asyncio.Future[list[AttachResult]] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait((asks, given))
        return await given

    async def ask(self) -> tuple[list[Any], asyncio.Future[list[AttachResult]]]:
        async with asyncio.timeout(1):
            return await self.asked.get()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def bench() -> Any:
    made = Bench()
    yield made
    made.task.cancel()


async def test_events_read_while_joining_are_held_and_sent_once(bench: Bench, user: UUID) -> None:
    bench.hub.take(page("A"))
    transport = FakeTransport()
    bench.hub.join(identity(user), transport, None, 0)
    _, given = await bench.ask()
    bench.hub.take(page("A", event(user, 7), event(user, 8)))
    assert transport.frames == []
    given.set_result([answer("A", 7, start="fresh", cursor="aaaaaaaa-7")])  # the snapshot has 7 already
    await bench.settle()
    assert (transport.kinds[0], transport.events) == ("hello", ["aaaaaaaa-8"])
    bench.hub.take(page("A", event(user, 8), event(user, 9)))
    assert transport.events == ["aaaaaaaa-8", "aaaaaaaa-9"]


async def test_a_result_of_another_incarnation_is_requested_again(bench: Bench, user: UUID) -> None:
    bench.hub.take(page("A"))
    transport = FakeTransport()
    bench.hub.join(identity(user), transport, Cursor("aaaaaaaa-3"), 0)
    asks, given = await bench.ask()
    assert asks[0].cursor == "aaaaaaaa-3"
    given.set_result([answer("B", 900)])
    await bench.settle()
    assert transport.frames == []
    assert bench.asked.empty(), "no request before a page of the new incarnation"
    bench.hub.take(page("B", event(user, 5, "bbbbbbbb")))
    asks, given = await bench.ask()
    assert asks[0].cursor == "aaaaaaaa-3"
    given.set_result([answer("B", 5, event(user, 5, "bbbbbbbb"))])
    await bench.settle()
    assert transport.events == ["bbbbbbbb-5"]


async def test_ids_reissued_after_a_failover_are_sent(bench: Bench, user: UUID) -> None:
    """A client attached at head 1604 of A must get event 1566 of B."""
    bench.hub.take(page("A"))
    transport = FakeTransport()
    bench.hub.join(identity(user), transport, Cursor("aaaaaaaa-1500"), 0)
    _, given = await bench.ask()
    given.set_result([answer("A", 1604, cursor="aaaaaaaa-1500")])
    await bench.settle()
    bench.hub.invalidate_attaches()
    bench.hub.take(page("B", event(user, 1566, "bbbbbbbb")))
    assert transport.events == []
    asks, given = await bench.ask()
    assert asks[0].cursor == "aaaaaaaa-1500"
    given.set_result([answer("B", 1566, event(user, 1566, "bbbbbbbb"), cursor="aaaaaaaa-1500")])
    await bench.settle()
    bench.hub.take(page("B", event(user, 1567, "bbbbbbbb")))
    assert (transport.kinds[0], transport.kinds.count("hello"), transport.events) == (
        "hello", 1, ["bbbbbbbb-1566", "bbbbbbbb-1567"],
    )  # fmt: skip


async def test_events_held_from_a_lost_incarnation_are_not_sent(bench: Bench, user: UUID) -> None:
    bench.hub.take(page("A"))
    transport = FakeTransport()
    bench.hub.join(identity(user), transport, Cursor("aaaaaaaa-1500"), 0)
    _, given = await bench.ask()
    bench.hub.take(page("A", event(user, 1600)))
    bench.hub.take(page("B"))
    given.set_result([answer("A", 1600)])
    _, given = await bench.ask()
    given.set_result([answer("B", 1566)])
    await bench.settle()
    bench.hub.take(page("B", event(user, 1567, "bbbbbbbb")))
    assert transport.events == ["bbbbbbbb-1567"]


async def test_a_reset_of_the_log_reattaches_all_clients_and_discards_pending_results(bench: Bench, user: UUID) -> None:
    bench.hub.take(page("A"))
    live, joining = FakeTransport(), FakeTransport()
    bench.hub.join(identity(user), live, Cursor("aaaaaaaa-1"), 0)
    _, given = await bench.ask()
    given.set_result([answer("A", 1, cursor="aaaaaaaa-1")])
    await bench.settle()
    bench.hub.join(identity(user), joining, None, 0)
    _, given = await bench.ask()
    bench.hub.take(page("A", event(user, 2)))  # held for the one that joins
    bench.hub.take(page("A", start="reset", cursor="aaaaaaaa-50"))  # 3 to 50 were not read
    given.set_result([answer("A", 2, start="fresh", cursor="aaaaaaaa-2")])
    await bench.settle()
    assert joining.frames == []
    asks, given = await bench.ask()
    assert sorted(str(ask.cursor) for ask in asks) == ["None", "aaaaaaaa-2"]
    given.set_result(
        [
            answer("A", 50, start="fresh", cursor="aaaaaaaa-40")
            if ask.cursor is None
            else answer("A", 50, event(user, 40), cursor="aaaaaaaa-2")
            for ask in asks
        ]
    )
    await bench.settle()
    assert live.events == ["aaaaaaaa-2", "aaaaaaaa-40"]
    assert live.kinds.count("hello") == 1
    assert (joining.kinds, joining.events) == (["hello"], [])


async def test_a_client_whose_cursor_is_lost_gets_reset_with_a_snapshot(bench: Bench, user: UUID) -> None:
    bench.hub.take(page("A"))
    transport = FakeTransport()
    bench.hub.join(identity(user), transport, None, 0)
    _, given = await bench.ask()
    given.set_result([answer("A", 9, start="fresh", cursor="aaaaaaaa-9")])
    await bench.settle()
    bench.hub.take(page("B"))
    asks, given = await bench.ask()
    assert asks[0].cursor == "aaaaaaaa-9"
    given.set_result([answer("B", 4, start="reset", cursor="bbbbbbbb-4")])
    await bench.settle()
    assert transport.kinds == ["hello", "reset"]
    bench.hub.take(page("B", event(user, 5, "bbbbbbbb")))
    assert transport.events == ["bbbbbbbb-5"]


async def test_after_a_lost_connection_the_attach_is_requested_again(bench: Bench, user: UUID) -> None:
    bench.hub.take(page("A"))
    transport = FakeTransport()
    bench.hub.join(identity(user), transport, None, 0)
    _, given = await bench.ask()
    given.set_exception(ConnectionError())
    await bench.settle()
    assert bench.asked.empty()
    bench.hub.take(page("A"))
    _, given = await bench.ask()
    given.set_result([answer("A", 0, start="fresh")])
    await bench.settle()
    assert transport.kinds == ["hello"]


async def test_a_client_that_holds_too_many_events_is_closed(bench: Bench, user: UUID) -> None:
    bench.hub.take(page("A"))
    transport = FakeTransport()
    bench.hub.join(identity(user), transport, None, 0)
    bench.hub.take(page("A", *[event(user, n) for n in range(1, hub.MAX_HELD + 1)]))
    assert transport.is_open
    bench.hub.take(page("A", event(user, hub.MAX_HELD + 1)))
    assert transport.closed == 1013
    assert bench.hub.count == 0


async def test_live_reports_the_number_of_events_replayed_since_stale(bench: Bench, user: UUID) -> None:
    bench.hub.take(page("A"))
    transport = FakeTransport()
    bench.hub.join(identity(user), transport, None, 0)
    _, given = await bench.ask()
    given.set_result([answer("A", 0, start="fresh")])
    await bench.settle()
    bench.hub.send_stale(1_700_000_000)
    bench.hub.send_stale(1_700_000_000)
    bench.hub.take(page("A", event(user, 1), event(user, 2)))
    bench.hub.send_live()
    assert transport.kinds == ["hello", "stale", "after_hours:x", "after_hours:x", "live"]
    assert transport.frames[1]["since"] == "2023-11-14T22:13:20.000Z"
    assert transport.frames[-1]["replayed"] == 2


async def test_live_after_a_change_of_server_counts_the_events_of_the_new_attach(bench: Bench, user: UUID) -> None:
    bench.hub.take(page("A"))
    transport = FakeTransport()
    bench.hub.join(identity(user), transport, None, 0)
    _, given = await bench.ask()
    given.set_result([answer("A", 0, start="fresh")])
    await bench.settle()
    bench.hub.send_stale(0)
    bench.hub.take(page("B", event(user, 1)))
    bench.hub.send_live()
    assert "live" not in transport.kinds
    _, given = await bench.ask()
    given.set_result([answer("B", 1, event(user, 1))])
    await bench.settle()
    assert transport.kinds == ["hello", "stale", "after_hours:x", "live"]
    assert transport.frames[-1]["replayed"] == 1


async def test_a_sync_while_joining_is_answered_after_hello(bench: Bench, user: UUID) -> None:
    bench.hub.take(page("A"))
    transport = FakeTransport()
    socket = bench.hub.join(identity(user), transport, None, 0)
    _, given = await bench.ask()
    bench.hub.sync(socket)
    bench.hub.sync(socket)
    given.set_result([answer("A", 0, start="fresh")])
    _, given = await bench.ask()
    given.set_result([answer("A", 0)])
    await bench.settle()
    assert transport.kinds == ["hello", "snapshot"]
    assert bench.asked.empty()


async def test_joins_of_one_turn_share_a_call(bench: Bench) -> None:
    bench.hub.take(page("A"))
    for _ in range(MAX_BATCH + 20):
        bench.hub.join(identity(uuid4()), FakeTransport(), None, 0)
    asks, given = await bench.ask()
    assert len(asks) == MAX_BATCH
    given.set_result([answer("A", 0, start="fresh") for _ in asks])
    asks, _ = await bench.ask()
    assert len(asks) == 20


async def test_a_batch_that_fails_is_repeated_in_smaller_batches(bench: Bench) -> None:
    bench.hub.take(page("A"))
    transports = [FakeTransport() for _ in range(MAX_BATCH)]
    for transport in transports:
        bench.hub.join(identity(uuid4()), transport, None, 0)
    sizes = []
    for _ in range(3):
        asks, given = await bench.ask()
        sizes.append(len(asks))
        given.set_exception(ConnectionError())
        await bench.settle()
        bench.hub.take(page("A"))
    while not all(transport.frames for transport in transports):
        asks, given = await bench.ask()
        sizes.append(len(asks))
        given.set_result([answer("A", 0, start="fresh") for _ in asks])
        await bench.settle()
    assert sizes == [500, 250, 125, 62, 124, 248, 66]


async def test_requests_of_clients_that_have_left_are_not_sent(bench: Bench) -> None:
    """R4: after five waves of clients without a database, 88 % of the requests were of clients that had left."""
    hub, users = bench.hub, [uuid4() for _ in range(100)]
    for _ in range(5):
        for client in [hub.join(identity(user), FakeTransport(), None, 0.0) for user in users]:
            hub.leave(client)
    transports = [FakeTransport() for _ in users]
    for user, transport in zip(users, transports, strict=True):
        hub.join(identity(user), transport, None, 0.0)
    assert hub.waiting() == len(users)
    hub.take(page("A"))
    asked, given = await bench.ask()
    assert sorted(request.user for request in asked) == sorted(users)
    given.set_result([answer("A", 0, start="fresh") for _ in asked])
    await bench.settle()
    assert all(transport.kinds == ["hello"] for transport in transports)
    assert hub.waiting() == 0


async def test_equal_waiting_requests_share_a_row(bench: Bench, user: UUID) -> None:
    """R5: twenty connections of one user share a row of the result."""
    same = identity(user)
    transports = [FakeTransport() for _ in range(20)]
    for transport in transports:
        bench.hub.join(same, transport, None, 0.0)
    bench.hub.take(page("A"))
    asked, given = await bench.ask()
    assert len(asked) == 1
    given.set_result([answer("A", 0, start="fresh")])
    await bench.settle()
    assert all(transport.kinds == ["hello"] for transport in transports)


async def test_a_block_read_from_the_log_closes_older_tokens_only(bench: Bench, user: UUID) -> None:
    bench.hub.take(page("A"))
    old, new, other = FakeTransport(), FakeTransport(), FakeTransport()
    bench.hub.join(Identity(user, datetime(2026, 1, 1, tzinfo=UTC), 2e9), old, None, 0)
    bench.hub.join(Identity(user, datetime(2026, 3, 1, tzinfo=UTC), 2e9), new, None, 0)
    bench.hub.join(Identity(uuid4(), datetime(2026, 1, 1, tzinfo=UTC), 2e9), other, None, 0)
    one = page("A")
    one.blocks.append(Block(user, datetime(2026, 2, 1, tzinfo=UTC), None))
    bench.hub.take(one)
    assert (old.closed, new.closed, other.closed) == (4401, None, None)
    one.blocks[0] = Block(user, datetime(2026, 2, 1, tzinfo=UTC), 5000)
    bench.hub.take(one)
    assert (new.closed, other.closed) == (4403, None)


async def test_warnings_moved_before_the_join_are_not_replayed(relay: Running, db: Connection, user: UUID) -> None:
    session = warn(db, user)
    transport = FakeTransport()
    db.execute("select after_hours.extend_session(%s, interval '1 hour')", (session,))
    socket = relay.relay.hub.join(identity(user), transport, Cursor("aaaaaaaa-0"), now())
    await wait_until(lambda: socket.has_hello)
    assert transport.events == []
