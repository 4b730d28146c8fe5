"""Many users at once: no user gets another user's frames, whatever cursor is presented; also while 5,000 reconnect."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg

from relay.records import parse_cursor
from tests.helpers import wait_until
from tests.relay.conftest import Running, StartRelay
from tests.relay.test_joining import FakeTransport, identity, now

if TYPE_CHECKING:
    import pytest

    from tests.conftest import Connection, Instance

END = """insert into public.after_hours_sessions (user_id, started_at, expires_at)
    select u, now() - interval '1 hour', now() - interval '1 second' from unnest($1::uuid[]) as u"""


async def test_200_users_with_each_others_cursors_get_only_their_own_events(
    relay: Running, db: Connection, instance: Instance
) -> None:
    users = [uuid4() for _ in range(200)]
    cursors: list[str] = ["aaaaaaaa-0"]
    seen: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
    writing = True

    async def write() -> None:
        connection = await asyncpg.connect(instance.dsn())
        try:
            while writing:
                await connection.execute(END, random.choices(users, k=20))
                await connection.fetch("select after_hours.announce_due()")
                await asyncio.sleep(0.005)
        finally:
            await connection.close()

    async def come_and_go(user: UUID) -> None:
        while writing:
            transport = FakeTransport()
            socket = relay.relay.hub.join(
                identity(user), transport, parse_cursor(random.choice([None, *cursors[-50:]])), now()
            )
            await asyncio.sleep(random.random() * 0.3)
            relay.relay.hub.leave(socket)
            seen[user] += transport.frames
            cursors.extend(transport.events)

    tasks = [asyncio.create_task(write()), *(asyncio.create_task(come_and_go(user)) for user in users)]
    await asyncio.sleep(3)
    writing = False
    await asyncio.gather(*tasks)
    owners = {
        str(row.id): row.user_id for row in db.execute("select id, user_id from public.after_hours_sessions").fetchall()
    }
    events = snapshots = 0
    for user, frames in seen.items():
        for frame in frames:
            if ":" in frame["type"]:
                events += 1
                assert owners[frame["sessionId"]] == user
            for session in frame.get("sessions", ()):
                snapshots += 1
                assert owners[session["sessionId"]] == user
    assert events > 1000
    assert snapshots > 1000


async def test_5000_clients_that_reconnect_at_once_are_resumed_while_events_are_sent(
    start_relay: StartRelay, db: Connection, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long it takes: ./dev bench reconnect. Beside load longer than a client may wait for hello or be silent."""
    monkeypatch.setattr("relay.websocket.keepalive.HOLD_SECONDS", 600)
    relay = await start_relay(ping_seconds=600)
    users = [uuid4() for _ in range(5000)]
    watched = users[0]
    connection = await asyncpg.connect(instance.dsn())
    try:
        await connection.execute(END, users)
        await connection.fetch("select after_hours.announce_due(5000)")
        head = f"aaaaaaaa-{len(users)}"
        await wait_until(lambda: relay.relay.hub.cursor == head)
        live = FakeTransport()
        there = relay.relay.hub.join(identity(watched), live, parse_cursor(head), now())
        await wait_until(lambda: there.has_hello)
        rows = db.execute("select user_id, id from after_hours.events order by id limit 5000").fetchall()
        sockets = [
            relay.relay.hub.join(identity(row.user_id), FakeTransport(), parse_cursor(f"aaaaaaaa-{row.id - 1}"), now())
            for row in rows
        ]
        sent = 0
        while not all(socket.has_hello for socket in sockets):
            had = len(live.events)
            await connection.execute(END, [watched])
            await connection.fetch("select after_hours.announce_due()")
            await wait_until(lambda had=had: len(live.events) > had)  # type: ignore[misc]
            sent += 1
        assert sent > 3, "a client that is live does not wait for those that come"
        for socket in sockets:
            assert isinstance(socket.transport, FakeTransport)
            if socket.identity.user != watched:
                assert len(socket.transport.events) == 1, "each client gets the one event that it had missed"
    finally:
        await connection.close()
