"""The listener's connection closed, without NOTIFY, without answers, unused for long; the states stale and live."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest

from relay.database.connect import CALL_SECONDS
from relay.database.session import DatabaseSession
from tests.helpers import wait_until
from tests.relay.conftest import Running, StartRelay, cursors, expire

if TYPE_CHECKING:
    from tests.conftest import Connection

BACKENDS = "pid <> pg_backend_pid() and application_name like 'after-hours relay%'"


async def test_after_killed_connections_the_relay_reconnects_and_loses_no_event(
    relay: Running, db: Connection, user: UUID
) -> None:
    async with relay.peer(user) as peer:
        for _ in range(3):
            db.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {BACKENDS}")
            expire(db, user)
        await peer.until(lambda it: len(it.events) == 3)
        assert [event["cursor"] for event in peer.events] == cursors(db)
        assert not peer.of("reset")
    assert relay.relay.metrics.connects._value.get() >= 2


async def test_a_killed_calling_connection_ends_the_session(relay: Running, db: Connection, user: UUID) -> None:
    session = relay.relay.listener._session
    assert session
    db.execute("select pg_terminate_backend(%s)", (session._calling.get_server_pid(),))
    await wait_until(lambda: relay.relay.listener._session not in (None, session))
    async with relay.peer(user) as peer:
        assert peer.frames[0]["type"] == "hello"


async def test_a_relay_that_receives_no_notify_polls_every_second_and_reports_it(
    start_relay: StartRelay, db: Connection, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler that swallows LISTEN: no NOTIFY arrives."""
    monkeypatch.setattr("relay.database.session.EVENTS", "elsewhere")
    monkeypatch.setattr("relay.database.session.PROBE", "elsewhere")
    relay = await start_relay(live=False)
    await wait_until(lambda: relay.relay.state.mode == "polling")
    async with httpx.AsyncClient() as client:
        ready = await client.get(relay.http("/readyz", admin=True))
        assert (ready.status_code, ready.json()["mode"]) == (200, "polling")
        assert "probe's NOTIFY" in ready.json()["reason"]
        assert "after_hours_relay_polling 1.0" in (await client.get(relay.http("/metrics", admin=True))).text
    async with relay.peer(user) as peer:
        started = time.monotonic()
        expire(db, user)
        await peer.until(lambda it: it.events, 1.5)
        assert time.monotonic() - started < 1.5


async def test_an_event_without_notify_is_delivered_within_five_seconds(
    relay: Running, db: Connection, user: UUID
) -> None:
    """Above half of the queue the emitter writes events without NOTIFY."""
    async with relay.peer(user) as peer:
        db.execute("select after_hours.open_epoch()")
        db.execute(
            "insert into after_hours.events (uid, epoch, type, session_id, user_id, deadline, due_at, emitted_at, body)"
            " values (gen_random_uuid(), 'aaaaaaaa', 'after_hours:session_expired', gen_random_uuid(), %s, now(), now(),"
            ' now(), \'{"type":"after_hours:session_expired","cursor":"aaaaaaaa-1"}\')',
            (user,),
        )
        await peer.until(lambda it: it.events, 5)


async def test_without_answers_the_relay_becomes_stale_then_live_with_the_replayed_count(
    relay: Running, db: Connection, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All calls time out, and no new connection can be made."""
    monkeypatch.setattr("relay.database.listener.STALE_SECONDS", 1.0)
    monkeypatch.setattr("relay.database.connect.CALL_SECONDS", 0.3)
    original = DatabaseSession.read
    hangs = True

    async def read(self: DatabaseSession, cursor: Any) -> Any:
        if hangs:
            await asyncio.sleep(0.3)
            raise TimeoutError
        return await original(self, cursor)

    async with relay.peer(user) as peer:
        monkeypatch.setattr(DatabaseSession, "read", read)
        await peer.until(lambda it: it.of("stale"))
        assert relay.relay.state.name == "stale"
        async with httpx.AsyncClient() as client:
            ready = await client.get(relay.http("/readyz", admin=True))
            assert (ready.status_code, ready.json()["state"]) == (503, "stale")
            assert 'state{state="stale"} 1.0' in (await client.get(relay.http("/metrics", admin=True))).text
        expire(db, user, user)
        assert not peer.events
        hangs = False
        started = time.monotonic()
        await peer.until(lambda it: it.of("live"))
        assert time.monotonic() - started < 1.5
        assert [frame["type"] for frame in peer.frames[-4:]] == ["stale", *["after_hours:session_expired"] * 2, "live"]
        assert peer.of("live")[0]["replayed"] == 2


async def test_after_30_seconds_without_a_read_all_clients_are_reattached(
    relay: Running, db: Connection, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with relay.peer(user) as peer:
        db.execute(
            "insert into after_hours.user_blocks values (%s, null, now(), 'x', 'x', now() - interval '2 minutes')",
            (user,),
        )
        monkeypatch.setattr("relay.database.listener.FORGOTTEN_SECONDS", -1)
        await peer.until(lambda it: it.closed)
        assert peer.closed
        assert peer.closed[0] == 4401


async def test_empty_wake_ups_are_counted_and_slowed_down(relay: Running, connect: Any) -> None:
    before = relay.relay.metrics.reads._value.get()
    stranger = connect("after_hours_stranger")
    started = time.monotonic()
    while time.monotonic() - started < 1:
        stranger.execute("select pg_notify('after_hours_events', gen_random_uuid()::text)")
        await asyncio.sleep(0)
    assert relay.relay.metrics.empty._value.get() > 5
    assert relay.relay.metrics.reads._value.get() - before < 200


async def test_a_rescue_goes_on_until_nothing_is_left(
    start_relay: StartRelay, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.database.heartbeat.RESCUE_SECONDS", 600)
    db.execute("update after_hours.settings set announce_batch = 2")
    db.execute("update after_hours.emitter set heartbeat_at = clock_timestamp() - interval '70 seconds'")
    for _ in range(5):
        expire(db, uuid4(), announce=False)
    await start_relay()
    await wait_until(lambda: len(db.execute("select from after_hours.events").fetchall()) == 5)


@pytest.mark.parametrize("table", ["public.after_hours_sessions", "after_hours.relays", "after_hours.receipts"])
async def test_a_table_that_others_have_locked_costs_no_connection(
    relay: Running, db: Connection, connect: Any, user: UUID, table: str
) -> None:
    """A call that takes longer than CALL_SECONDS counts as a dead server: all clients would have to be caught up."""
    async with relay.peer(user) as peer:
        neighbour = connect(autocommit=False)
        neighbour.execute(f"lock table {table} in access exclusive mode".encode())
        relay.relay.state.changed.set()  # a heartbeat now
        if table != "public.after_hours_sessions":
            expire(db, user)
            await peer.until(lambda it: it.events)
        await asyncio.sleep(CALL_SECONDS + 1)
        neighbour.rollback()
        expire(db, user)
        await peer.until(lambda it: len(it.events) == (1 if table == "public.after_hours_sessions" else 2))
    assert relay.relay.metrics.connects._value.get() == 1
    await wait_until(lambda: len(db.execute("select first_write from after_hours.receipts").fetchall()) > 0)


async def test_the_relay_sends_heartbeats_and_announces_when_the_scheduler_does_not(
    start_relay: StartRelay, db: Connection, user: UUID
) -> None:
    db.execute("update after_hours.emitter set heartbeat_at = clock_timestamp() - interval '70 seconds'")
    expire(db, user, announce=False)
    relay = await start_relay()
    async with relay.peer(user, after="aaaaaaaa-0") as peer:
        await peer.until(lambda it: it.events)
    rows = db.execute("select node, mode from after_hours.relays").fetchall()
    assert [row.node for row in rows] == ["test-0"]
    assert relay.relay.metrics.rescues._value.get() >= 1


async def test_a_host_that_is_down_is_skipped(
    start_relay: StartRelay, instance: Any, db: Connection, user: UUID
) -> None:
    dsn = instance.dsn("after_hours_relay")
    directory = dsn.split("host=")[1].split("&")[0]
    relay = await start_relay(dsn=dsn.replace(f"host={directory}", f"host=/nowhere,{directory}"))
    async with relay.peer(user) as peer:
        expire(db, user)
        await peer.until(lambda it: it.events)


async def test_a_host_that_is_read_only_is_skipped(start_relay: StartRelay, db: Connection) -> None:
    db.execute("alter role after_hours_relay set default_transaction_read_only = on")
    try:
        relay = await start_relay(live=False)
        await wait_until(lambda: "is read-only" in relay.relay.state.reason)
        db.execute("alter role after_hours_relay reset default_transaction_read_only")
        await wait_until(lambda: relay.relay.state.name == "live")
    finally:
        db.execute("alter role after_hours_relay reset default_transaction_read_only")


async def test_without_a_database_the_relay_is_alive_but_not_ready(start_relay: StartRelay, user: UUID) -> None:
    relay = await start_relay(live=False, dsn="postgresql://u@/x?host=/nowhere")
    async with httpx.AsyncClient() as client:
        await wait_until(lambda: "Error" in relay.relay.state.reason)
        assert (await client.get(relay.http("/livez"))).status_code == 200
        ready = await client.get(relay.http("/readyz", admin=True))
        assert (ready.status_code, ready.json()["state"]) == (503, "connecting")
        assert (await client.get(relay.http("/ops", admin=True))).json()["database"] is None


async def test_a_relay_that_stops_removes_its_row_and_sends_its_last_receipts(
    start_relay: StartRelay, db: Connection, user: UUID
) -> None:
    relay = await start_relay()
    await wait_until(lambda: db.execute("select mode from after_hours.relays").fetchall() == [("notify",)])
    async with relay.peer(user) as peer:
        expire(db, user)
        await peer.until(lambda it: it.events)
        await relay.stop()
    assert db.execute("select node from after_hours.relays").fetchall() == []
    assert db.execute("select node from after_hours.receipts").fetchall() == [("test-0",)]


async def test_the_reason_why_a_host_is_not_followed_is_logged_once(
    start_relay: StartRelay, caplog: pytest.LogCaptureFixture
) -> None:
    relay = await start_relay(live=False, dsn="postgresql://u@/x?host=/nowhere,/elsewhere")
    await asyncio.sleep(1)
    told = [record.__dict__["host"] for record in caplog.records if record.message == "database not followed"]
    assert told == [0, 1]
    assert relay.relay.state.name == "connecting"
