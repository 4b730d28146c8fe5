"""One client's data never stops the relay for the others: each value a client gives, beside a client that joins."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
import pytest

from tests.relay.conftest import Running, make_token

if TYPE_CHECKING:
    from tests.conftest import Connection

BEFORE_HELLO = [
    "\x00",
    "\ud800",
    "x",
    "aaaaaaaa-1\x00",
    "aaaaaaaa-1\n",
    "aaaaaaaa-٣",
    "aaaaaaaa-" + "9" * 19,
    "💥" * 200,
]


async def join_within_a_second(relay: Running) -> None:
    """Another user's client is greeted."""
    started = time.monotonic()
    async with relay.peer(uuid4()) as other:
        assert other.frames[0]["type"] == "hello"
    assert time.monotonic() - started < 1
    assert relay.relay.state.name == "live"


@pytest.mark.parametrize("after", BEFORE_HELLO, ids=ascii)
async def test_a_cursor_that_is_none_is_a_reset_and_harms_nobody(relay: Running, user: UUID, after: str) -> None:
    async with relay.peer(user, additional_headers={}) as peer:
        await peer.say(type="auth", token=make_token(user), after=after)
        await join_within_a_second(relay)
        await peer.until(lambda it: it.frames or it.closed)
        assert (peer.frames[0]["type"], peer.frames[0]["start"]) == ("hello", "reset")


@pytest.mark.parametrize("after", ["%00", "%ff", "%ed%a0%80", "aaaaaaaa-1%00", "aaaaaaaa-1%0a"])
async def test_the_same_in_a_url(relay: Running, user: UUID, after: str) -> None:
    async with relay.peer(user, after=after) as peer:
        assert peer.frames[0]["start"] == "reset"
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {make_token(user)}"}) as client:
        answer = await client.get(relay.http(f"/events?after={after}"))
        assert (answer.status_code, answer.json()["start"]) == (200, "reset")
    await join_within_a_second(relay)


async def test_iat_ahead_of_our_clock_does_not_outlive_a_disconnect(relay: Running, db: Connection, user: UUID) -> None:
    async with relay.peer(user, token=make_token(user, iat=time.time() + 4)) as peer:
        db.execute("select after_hours.disconnect_user(%s, 'test')", (user,))
        await peer.until(lambda it: it.closed, 1)
        assert peer.closed == (4401, {"retryAfterMs": 1000})


async def test_a_block_committed_long_after_it_was_written_reaches_who_is_connected(
    relay: Running, db: Connection, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moderator's transaction that stays open for two minutes, told by changed_at: no test waits that long."""
    monkeypatch.setattr("relay.database.heartbeat.ROUND_SECONDS", 1)
    async with relay.peer(user) as peer, relay.peer(uuid4()) as other:
        with db.transaction():
            db.execute("select after_hours.block_user(%s, null, 'test')", (user,))
            db.execute("update after_hours.user_blocks set changed_at = changed_at - interval '2 minutes'")
        await peer.until(lambda it: it.closed, 5)
        assert peer.closed
        assert peer.closed[0] == 4403
        assert other.is_open
