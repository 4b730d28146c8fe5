"""Each value that a client can send, while other clients join: one client's data does not affect the others."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

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
    """A client of another user gets hello."""
    started = time.monotonic()
    async with relay.peer(uuid4()) as other:
        assert other.frames[0]["type"] == "hello"
    assert time.monotonic() - started < 1
    assert relay.relay.state.name == "live"


@pytest.mark.parametrize("after", BEFORE_HELLO, ids=ascii)
async def test_an_invalid_cursor_gets_reset_and_other_clients_join(relay: Running, user: UUID, after: str) -> None:
    async with relay.peer(user, additional_headers={}) as peer:
        await peer.say(type="auth", token=make_token(user), after=after)
        await join_within_a_second(relay)
        await peer.until(lambda it: it.frames or it.closed)
        assert (peer.frames[0]["type"], peer.frames[0]["start"]) == ("hello", "reset")


@pytest.mark.parametrize("after", ["%00", "%ff", "%ed%a0%80", "aaaaaaaa-1%00", "aaaaaaaa-1%0a"])
async def test_an_invalid_cursor_in_a_url_gets_reset_and_other_clients_join(
    relay: Running, user: UUID, after: str
) -> None:
    async with relay.peer(user, after=after) as peer:
        assert peer.frames[0]["start"] == "reset"
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {make_token(user)}"}) as client:
        answer = await client.get(relay.http(f"/events?after={after}"))
        assert (answer.status_code, answer.json()["start"]) == (200, "reset")
    await join_within_a_second(relay)


async def test_a_token_issued_ahead_of_the_clock_is_closed_by_a_disconnect(
    relay: Running, db: Connection, user: UUID
) -> None:
    async with relay.peer(user, token=make_token(user, iat=time.time() + 4)) as peer:
        db.execute("select after_hours.disconnect_user(%s, 'test')", (user,))
        await peer.until(lambda it: it.closed)
        assert peer.closed == (4401, {"retryAfterMs": 1000})


async def test_a_block_committed_two_minutes_late_closes_connected_clients(
    relay: Running, db: Connection, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moderator's transaction that stays open for two minutes; changed_at is set back, to save the waiting."""
    monkeypatch.setattr("relay.database.heartbeat.ROUND_SECONDS", 1)
    async with relay.peer(user) as peer, relay.peer(uuid4()) as other:
        with db.transaction():
            db.execute("select after_hours.block_user(%s, null, 'test')", (user,))
            db.execute("update after_hours.user_blocks set changed_at = changed_at - interval '2 minutes'")
        await peer.until(lambda it: it.closed)
        assert peer.closed
        assert peer.closed[0] == 4403
        assert other.is_open


NASTY = (
    "\x00", "\ud800", "\U0010ffff", "\n", "\r\n", '"', "'", "\\", "{", "%00", "%s", "-", "٣", "\u202e", "x" * 300,
    "aaaaaaaa-1", "aaaaaaaa-9223372036854775808", "AAAAAAAA-1", "00000000-0000-4000-8000-000000000000", "infinity", "",
)  # fmt: skip


def some_value(random: Random, depth: int = 0) -> Any:
    """A random JSON value: strings that are difficult for parsers, numbers out of range, nesting."""
    kind = random.randrange(8 if depth < 3 else 5)
    if kind < 3:
        return "".join(random.choices(NASTY, k=random.randint(1, 4)))
    if kind == 3:
        return random.choice([0, -1, 2**31, 2**63, 10**400, -(2**63), 1e308, float("nan"), float("inf"), 0.1])
    if kind == 4:
        return random.choice([None, True, False])
    if kind == 5:
        return [some_value(random, depth + 1) for _ in range(random.randint(0, 3))]
    return {str(some_value(random, 3)): some_value(random, depth + 1) for _ in range(random.randint(0, 3))}


async def send_some_values(relay: Running, user: UUID, random: Random) -> None:
    """One client that sends such values in each field: claims, `after`, acks, syncs, types."""
    claims = {random.choice(["iat", "exp", "nbf", "jti", "x"]): some_value(random)} if random.random() < 0.5 else {}
    with suppress(TypeError, ValueError, OverflowError):  # PyJWT doesn't sign each of them
        token = make_token(user, **claims)
        after = quote("".join(random.choices(NASTY[3:], k=2)).encode("utf-8", "surrogatepass")[:200])
        async with relay.peer(user, after=after, additional_headers={}) as peer:
            messages: list[dict[str, Any]] = [
                {"type": "auth", "token": token, "after": some_value(random)},
                {"type": "ack", "cursor": some_value(random)},
                {"type": "sync", "cursor": some_value(random)},
                {"type": some_value(random)},
            ]
            with suppress(ConnectionClosed):
                for message in messages:
                    await peer.say(**message)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_values_clients_send_other_clients_join_within_a_second(relay: Running, seed: int) -> None:
    """A property of all calls that clients share (attach, receipts, probes)."""
    random = Random(seed)
    for _ in range(5):
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(send_some_values(relay, uuid4(), random))
            await join_within_a_second(relay)
    assert relay.relay.state.fault is None
