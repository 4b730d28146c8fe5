"""P3 to P5 at the socket: which client gets which events, in which order, from which cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.relay.conftest import Running, StartRelay, cursors, expire, warn

if TYPE_CHECKING:
    from tests.conftest import Connection


async def test_hello_has_start_cursor_and_sessions_and_an_event_follows(
    relay: Running, db: Connection, user: UUID
) -> None:
    session = warn(db, user)
    async with relay.peer(user) as peer:
        hello = peer.frames[0]
        assert (hello["type"], hello["start"], hello["node"]) == ("hello", "fresh", "test-0")
        assert hello["cursor"] == cursors(db)[0]
        assert [(one["sessionId"], one["state"]) for one in hello["sessions"]] == [(str(session), "warned")]
        db.execute("select after_hours.end_session(%s, 'left')", (session,))
        db.execute("select after_hours.announce_due()")
        await peer.until(lambda it: it.events)
        event = peer.events[0]
        assert (event["type"], event["reason"], event["sessionId"]) == (
            "after_hours:session_expired", "ended", str(session)
        )  # fmt: skip
        assert event["cursor"] == cursors(db)[1]


async def test_a_cursor_replays_exactly_the_missed_events(relay: Running, db: Connection, user: UUID) -> None:
    expire(db, user, uuid4(), user, uuid4(), user)
    mine = [cursor for cursor, whose in zip(cursors(db), (1, 0, 1, 0, 1), strict=True) if whose]
    async with relay.peer(user, after=mine[0]) as peer:
        await peer.until(lambda it: len(it.events) == 2)
        assert (peer.frames[0]["start"], peer.frames[0]["cursor"]) == ("replayed", mine[0])
        assert [event["cursor"] for event in peer.events] == mine[1:]
    async with relay.peer(user, after=mine[-1]) as peer:
        expire(db, user)
        await peer.until(lambda it: it.events)
        assert [event["cursor"] for event in peer.events] == cursors(db)[5:]


async def test_an_event_reaches_all_sockets_of_its_user_on_all_relays_and_no_other_user(
    start_relay: StartRelay, db: Connection, user: UUID
) -> None:
    first, second = await start_relay(), await start_relay()
    async with (
        first.peer(user) as one, first.peer(user) as two, second.peer(user) as three, first.peer(uuid4()) as other
    ):  # fmt: skip
        expire(db, user)
        for peer in (one, two, three):
            await peer.until(lambda it: it.events)
        async with first.peer(user) as late:
            assert not late.events
        assert not other.events


async def test_forged_notifications_reach_no_client(
    relay: Running, db: Connection, user: UUID, connect: object
) -> None:
    assert callable(connect)
    stranger = connect("after_hours_stranger")
    async with relay.peer(user) as peer:
        for payload in ("", "{}", "x" * 7000, f'{{"type":"after_hours:session_expired","id":"1","userId":"{user}"}}'):
            stranger.execute("select pg_notify('after_hours_events', %s)", (payload,))
        stranger.execute("select pg_notify('after_hours_probe', 'forged')")
        expire(db, user)
        await peer.until(lambda it: it.events)
        assert [event["cursor"] for event in peer.events] == cursors(db)
        assert relay.relay.state.name == "live"


async def test_a_passed_or_moved_warning_is_not_read(relay: Running, db: Connection, user: UUID) -> None:
    warn(db, uuid4())
    start = cursors(db)[0]
    moved, passed, stands = warn(db, user, 60), warn(db, user, 0.05), warn(db, user, 61)
    db.execute("select after_hours.extend_session(%s, interval '1 hour')", (moved,))
    db.execute("select pg_sleep(0.06)")
    async with relay.peer(user, after=start) as peer:
        await peer.until(lambda it: it.events)
        assert [event["sessionId"] for event in peer.events] == [str(stands)]
    rows = db.execute(
        "select body::json->>'sessionId' as session from after_hours.relay_events(%s) where kind = 'event'", (start,)
    )
    assert [row.session for row in rows] == [str(stands)]
    assert str(passed) not in str(peer.frames[1:])


async def test_a_block_closes_and_refuses_until_it_is_lifted(relay: Running, db: Connection, user: UUID) -> None:
    async with relay.peer(user) as peer, relay.peer(uuid4()) as other:
        db.execute("select after_hours.block_user(%s, now() + interval '1 hour', 'test')", (user,))
        await peer.until(lambda it: it.closed)
        assert peer.closed
        assert peer.closed[0] == 4403
        assert 3_500_000 < peer.closed[1]["retryAfterMs"] <= 3_600_000
        assert other.closed is None
    async with relay.peer(user) as peer:
        assert peer.closed
        assert peer.closed[0] == 4403
        assert not peer.frames
    assert db.execute("select after_hours.unblock_user(%s) as was", (user,)).fetchone() == (True,)
    async with relay.peer(user) as peer:
        assert peer.frames[0]["type"] == "hello"


@pytest.mark.parametrize("call", ["block_user(%s, null, %s)", "disconnect_user(%s, %s)"])
@pytest.mark.parametrize("reason", [None, " "])
def test_a_block_needs_a_reason(db: Connection, user: UUID, call: str, reason: str | None) -> None:
    with pytest.raises(psycopg.Error, match="needs a reason") as caught:
        db.execute(f"select after_hours.{call}", (user, reason))
    assert caught.value.sqlstate == "AH064"


async def test_disconnect_closes_on_all_relays_and_accepts_newer_tokens(
    start_relay: StartRelay, db: Connection, user: UUID
) -> None:
    first, second = await start_relay(), await start_relay()
    from tests.relay.conftest import make_token

    old = make_token(user)
    async with first.peer(user, token=old) as one, second.peer(user, token=old) as two:
        db.execute("select after_hours.disconnect_user(%s, 'test')", (user,))
        for peer in (one, two):
            await peer.until(lambda it: it.closed)
            assert peer.closed == (4401, {"retryAfterMs": 1000})
    async with first.peer(user, token=old) as peer:
        assert peer.closed == (4401, {"retryAfterMs": 1000})
    async with first.peer(user, token=make_token(user)) as peer:
        assert peer.frames[0]["type"] == "hello"


async def test_sync_is_answered_with_a_snapshot_and_no_event_is_lost(
    relay: Running, db: Connection, user: UUID
) -> None:
    async with relay.peer(user) as peer:
        await peer.say(type="sync")
        expire(db, user)
        await peer.say(type="sync")
        await peer.until(lambda it: it.of("snapshot") and it.events)
        await peer.until(lambda it: any(one["sessions"] for one in it.of("snapshot")))
        assert peer.of("snapshot")[-1]["sessions"][0]["state"] == "ended"
        assert [event["cursor"] for event in peer.events] == cursors(db)


async def test_acks_are_stored_only_for_events_sent_on_this_socket(relay: Running, db: Connection, user: UUID) -> None:
    other = uuid4()
    async with relay.peer(user) as peer, relay.peer(other) as stranger:
        expire(db, user, other, user)
        await peer.until(lambda it: len(it.events) == 2)
        await stranger.until(lambda it: it.events)
        await stranger.say(type="ack", cursor=cursors(db)[2])
        await peer.say(type="ack", cursor=cursors(db)[0])
        await peer.say(type="ack", cursor="bbbbbbbb-1")
        await peer.say(type="ack", cursor=None)

        def receipts() -> list[tuple[int, bool]]:
            rows = db.execute("select event_id, first_ack is not null as acked from after_hours.receipts order by 1")
            return [(row.event_id, row.acked) for row in rows]

        await peer.until(lambda _: receipts() == [(1, True), (2, False), (3, False)])
        await peer.say(type="ack", cursor=cursors(db)[2])
        await peer.until(lambda _: receipts() == [(1, True), (2, False), (3, True)])
