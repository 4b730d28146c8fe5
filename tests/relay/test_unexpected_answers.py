"""Unexpected answers of the database: reported by /readyz and retried; process and other clients continue (REVIEW R13)."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
import pytest

from tests.helpers import wait_until
from tests.relay.conftest import Running, expire, make_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Connection

ATTACH = "relay_attach(p_user_ids uuid[], p_cursors text[], p_issued_at timestamptz[])"
EVENTS = "relay_events(p_cursor text, p_limit integer)"
COLUMNS = "ord, incarnation, head, start, cursor, state, blocked_ms, ids, uids, cursors, bodies, due_ats, emitted_ats"
AS_AGREED = "select {} from after_hours.as_agreed(p_user_ids, p_cursors, p_issued_at)"

ANSWERS = {
    "a row missing": (ATTACH, AS_AGREED.format("*") + " offset 1"),
    "a row too many": (ATTACH, f"{AS_AGREED.format('*')} union all {AS_AGREED.format('*')}"),
    "no state": (ATTACH, AS_AGREED.format(COLUMNS.replace("state", "null::text"))),
    "no incarnation": (ATTACH, AS_AGREED.format(COLUMNS.replace("incarnation", "null::text"))),
    "no cursor": (ATTACH, AS_AGREED.format(COLUMNS.replace("cursor,", "null::text,"))),
    "an error": (ATTACH, AS_AGREED.format("*") + " where 1 / (p_user_ids[1] is null)::integer = 1"),
    "no row of the log": (EVENTS, "select * from after_hours.as_agreed(p_cursor, p_limit) where false"),
    "an error of the log": (EVENTS, "select * from after_hours.as_agreed(p_cursor, p_limit) where 1 / 0 = 1"),
}


@contextmanager
def replaced(db: Connection, function: str, body: str) -> Iterator[None]:
    """One of the relay's functions returns something else, as after half an upgrade."""
    name = function.partition("(")[0]
    row = db.execute(
        "select pg_get_function_result(oid) as result from pg_proc where proname = %s"
        " and pronamespace = 'after_hours'::regnamespace",
        (name,),
    ).fetchone()
    assert row
    with db.transaction():
        db.execute(f"alter function after_hours.{name} rename to as_agreed".encode())
        db.execute(
            f"create function after_hours.{function} returns {row.result} language sql volatile security definer"
            f" as $$ {body} $$; grant execute on function after_hours.{name} to after_hours_relay".encode()
        )
    try:
        yield
    finally:
        with db.transaction():
            db.execute(f"drop function after_hours.{name}".encode())
            db.execute(f"alter function after_hours.as_agreed rename to {name}".encode())


@pytest.mark.parametrize("kind", ANSWERS)
async def test_an_unexpected_answer_ends_neither_the_process_nor_its_clients(
    relay: Running, db: Connection, user: UUID, kind: str
) -> None:
    async with relay.peer(user) as joined:
        with replaced(db, *ANSWERS[kind]):
            expire(db, uuid4())  # wakes it up
            async with relay.peer(uuid4(), additional_headers={}) as late:
                await late.say(type="auth", token=make_token(uuid4()))
                await wait_until(lambda: relay.relay.state.fault is not None)
                async with httpx.AsyncClient() as client:
                    ready = await client.get(relay.http("/readyz", admin=True))
                    assert "unexpected" in ready.text, ready.text
        assert not relay.task.done()
        assert joined.is_open
        async with relay.peer(uuid4()) as other:
            assert other.frames[0]["type"] == "hello"
        await wait_until(lambda: relay.relay.state.fault is None)
        expire(db, user)
        await joined.until(lambda it: it.events)


async def test_a_client_whose_row_raises_is_closed_and_the_others_of_its_batch_join(
    relay: Running, db: Connection, user: UUID
) -> None:
    """R1: a batch is halved until the row at fault is alone; it gets 1011."""
    raising = AS_AGREED.format("*") + f" where 1 / ('{user}' <> all (p_user_ids))::integer = 1"
    with replaced(db, ATTACH, raising):
        async with relay.peer(user, additional_headers={}) as poisoned:
            others = [uuid4() for _ in range(20)]
            started = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(poisoned.say(type="auth", token=make_token(user)))
                joining = [group.create_task(join(relay, other)) for other in others]
            assert [task.result() for task in joining] == ["hello"] * len(others)
            assert time.monotonic() - started < 2
            await poisoned.until(lambda it: it.closed)
            assert poisoned.closed
            assert poisoned.closed[0] == 1011


async def join(relay: Running, user: UUID) -> str:
    """The type of the first frame that a new client of a user gets."""
    async with relay.peer(user) as peer:
        return str(peer.frames[0]["type"]) if peer.frames else f"closed {peer.closed}"
