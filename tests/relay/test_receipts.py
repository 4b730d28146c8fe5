"""Receipts as seen from SQL: delivery_report, unreached_warnings, and the setting that disables receipts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from relay.delivery.receipts import MAX_UNACKED, Receipts
from relay.metrics import Metrics
from tests.helpers import wait_until
from tests.relay.conftest import Running, StartRelay, cursors, expire, warn

if TYPE_CHECKING:
    from tests.conftest import Connection


def report(db: Connection, user: UUID) -> list[Any]:
    return db.execute(
        "select type, node, verdict, written_after_ms, acknowledged_after_ms, emitted_after_ms"
        " from after_hours.delivery_report where user_id = %s",
        (user,),
    ).fetchall()


async def test_the_delivery_report_shows_delay_relay_and_acknowledgement_across_an_outage(
    start_relay: StartRelay, db: Connection, user: UUID
) -> None:
    """One user: was the warning sent, how late, by which relay, and was it acknowledged?"""
    first, second = await start_relay(node="berlin"), await start_relay(node="oslo")
    async with first.peer(user) as peer:
        warn(db, user)
        await peer.until(lambda it: it.events)
        await peer.say(type="ack", cursor=cursors(db)[0])
        await wait_until(lambda: report(db, user)[0].verdict == "acknowledged")
    expire(db, user)  # while the user has no connection
    await asyncio.sleep(1.2)
    assert [row.verdict for row in report(db, user)] == ["acknowledged", "no relay has written it"]
    async with second.peer(user, after=cursors(db)[0]) as peer:
        await peer.until(lambda it: it.events)
        await wait_until(lambda: report(db, user)[1].node == "oslo")
    rows = report(db, user)
    assert [(row.type[12:], row.node, row.verdict) for row in rows] == [
        ("session_expiring", "berlin", "acknowledged"),
        ("session_expired", "oslo", "written, not acknowledged"),
    ]
    assert 0 < rows[0].written_after_ms < rows[0].acknowledged_after_ms
    assert rows[1].written_after_ms > 1200, "the delay is reported"
    db.execute("delete from after_hours.events")
    assert len(report(db, user)) == 2, "receipts are kept longer than events"
    assert report(db, uuid4()) == []


async def test_unreached_warnings_lists_unacknowledged_warnings_after_five_seconds(
    relay: Running, db: Connection, connect: Any
) -> None:
    reached, silent, away, moved, fresh = (uuid4() for _ in range(5))
    async with relay.peer(reached) as good, relay.peer(silent):
        sessions = {user: warn(db, user) for user in (reached, silent, away, moved)}
        await good.until(lambda it: it.events)
        await good.say(type="ack", cursor=good.events[0]["cursor"])
        await wait_until(
            lambda: db.execute("select from after_hours.receipts where first_ack is not null").rowcount == 1
        )
        await wait_until(lambda: db.execute("select from after_hours.receipts").rowcount == 2)
    worker = connect("after_hours_app")
    unreached = "select user_id, was_written from after_hours.unreached_warnings"
    assert worker.execute(unreached).fetchall() == [], "not before five seconds have passed"
    db.execute("update after_hours.events set emitted_at = emitted_at - interval '6 seconds'")
    warn(db, fresh)
    db.execute("select after_hours.extend_session(%s, interval '1 hour')", (sessions[moved],))
    assert sorted(worker.execute(unreached).fetchall()) == sorted([(silent, True), (away, False)])


async def test_the_first_event_since_an_instant_is_found_across_gaps(db: Connection) -> None:
    expire(db, *[uuid4() for _ in range(60)])
    db.execute("update after_hours.events set emitted_at = '2026-01-01Z'::timestamptz + make_interval(secs => id)")
    db.execute("delete from after_hours.events where id % 3 = 0 or id between 20 and 40")
    for instant, wanted in ((0, 1), (1, 1), (2, 2), (3, 4), (19.5, 41), (59, 59), (60, None)):
        row = db.execute(
            "select after_hours.first_event_since('2026-01-01Z'::timestamptz + make_interval(secs => %s)) as id",
            (instant,),
        ).fetchone()
        assert row
        assert row.id == wanted, instant
    db.execute("delete from after_hours.events")
    assert db.execute("select after_hours.first_event_since(now())").fetchone() == (None,)


async def test_without_receipts_none_are_written(start_relay: StartRelay, db: Connection, user: UUID) -> None:
    db.execute("update after_hours.settings set receipts = false")
    relay = await start_relay()
    await wait_until(lambda: not relay.relay.receipts.wanted)
    async with relay.peer(user) as peer:
        expire(db, user)
        await peer.until(lambda it: it.events)
        await peer.say(type="ack", cursor=cursors(db)[0])
        await asyncio.sleep(1.2)
    assert db.execute("select from after_hours.receipts").rowcount == 0


def test_memory_for_a_client_that_never_acknowledges_is_bounded() -> None:
    from relay.delivery.connection import Connection as Client
    from relay.records import Cursor, Event
    from tests.relay.test_joining import FakeTransport, identity

    receipts = Receipts(Metrics())
    user = uuid4()
    socket = Client(identity(user), FakeTransport(), None, 0, 0)
    at = datetime.now(UTC)
    for number in range(1000):
        receipts.written(socket, Event(number, uuid4(), user, Cursor(f"aaaaaaaa-{number}"), b"\x81\x00", at, at))
    assert socket.unacked
    assert len(socket.unacked) == MAX_UNACKED
    receipts.take()
    receipts.acked(socket, Cursor("aaaaaaaa-0"))
    assert receipts.take() == [], "older than the remembered events: not stored as acknowledged"
    receipts.acked(socket, Cursor("aaaaaaaa-999"))
    assert len(receipts.take()) == MAX_UNACKED
