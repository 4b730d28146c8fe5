"""The only SQL of the relay: LISTEN and calls of named functions, over two connections to one server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from relay.frames import text_frame
from relay.records import Answer, Block, Event, Page, Wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from relay.settings import Settings

EVENTS = "after_hours_events"
PROBE = "after_hours_probe"
CALL_SECONDS = 2.5  # a call that takes longer counts as a dead server
STATUS_SECONDS = 10.0  # somebody looks at a page; nothing waits for it
PAGE = 1000


class Link:
    """A listening and a calling connection to one primary; both live and die together.

    pooled: somebody in between hands out another backend for each transaction. Then nothing may be prepared, and
    each call is a transaction of its own, which keeps it on one backend.
    """

    def __init__(
        self,
        listening: asyncpg.Connection[Any],
        calling: asyncpg.Connection[Any],
        connect: Callable[[], Awaitable[asyncpg.Connection[Any]]],
        pooled: bool,
    ) -> None:
        self._pooled = pooled
        self._listening = listening
        self._calling = calling
        self._connect = connect
        self._calls = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        dsn: str,
        settings: Settings,
        notified: Callable[[], None],
        probed: Callable[[str], None],
        *,
        pooled: bool = False,
    ) -> Self:
        """Connect to one host and LISTEN. Raises what asyncpg, the network or the clock raise."""

        async def connect() -> asyncpg.Connection[Any]:
            return await asyncpg.connect(
                dsn,
                timeout=settings.connect_seconds,
                command_timeout=CALL_SECONDS,
                statement_cache_size=0 if pooled else 100,
                target_session_attrs=SessionAttribute.primary,
                server_settings={
                    "application_name": f"after-hours relay {settings.node}"[:63],
                    "tcp_keepalives_idle": "10",
                    "tcp_keepalives_interval": "5",
                    "tcp_keepalives_count": "3",
                },
            )

        listening = await connect()
        try:
            link = cls(listening, await connect(), connect, pooled)
        except BaseException:
            listening.terminate()
            raise
        listening.add_termination_listener(lambda _connection: notified())
        try:
            await listening.add_listener(EVENTS, lambda *_ignored: notified())
            await listening.add_listener(PROBE, lambda _connection, _pid, _channel, payload: probed(str(payload)))
        except BaseException:
            link.terminate()
            raise
        return link

    def terminate(self) -> None:
        """Drop both connections at once, whatever the network does."""
        for connection in (self._listening, self._calling):
            with suppress(Exception):
                connection.terminate()

    async def read(self, cursor: str | None) -> Page:
        """Everything announced since the cursor, one page."""
        rows = await self._fetch(self._listening, "select * from after_hours.relay_events($1, $2)", cursor, PAGE)
        head = rows[0]
        page = Page(head["life"], head["start"], head["cursor"], head["more"])
        for row in rows[1:]:
            if row["kind"] == "event":
                page.events.append(
                    Event(
                        row["id"],
                        row["uid"],
                        row["user_id"],
                        row["cursor"],
                        text_frame(row["body"]),
                        row["due_at"],
                        row["emitted_at"],
                    )
                )
            else:
                page.blocks.append(Block(row["user_id"], row["issued_before"], row["blocked_ms"]))
        return page

    async def attach(
        self, users: Sequence[UUID], cursors: Sequence[str | None], issued_at: Sequence[datetime]
    ) -> list[Answer]:
        """Where each of these users starts and what it has missed, of one snapshot."""
        rows = await self._call("select * from after_hours.relay_attach($1, $2, $3)", users, cursors, issued_at)
        answers = []
        for user, row in zip(users, rows, strict=True):
            missed = zip(
                row["ids"] or (),
                row["uids"] or (),
                row["cursors"] or (),
                row["bodies"] or (),
                row["due_ats"] or (),
                row["emitted_ats"] or (),
                strict=True,
            )
            events = [
                Event(id_, uid, user, cursor, text_frame(body), due_at, emitted_at)
                for id_, uid, cursor, body, due_at, emitted_at in missed
            ]
            answers.append(
                Answer(
                    row["life"],
                    row["head"],
                    row["start"],
                    row["cursor"],
                    row["state"],
                    row["blocked_ms"],
                    events,
                )
            )
        return answers

    async def probe(self, nonce: str) -> None:
        """Send the canary, on the calling connection: only a LISTEN that hears others brings it back."""
        await self._call("select after_hours.relay_probe($1)", nonce)

    async def beat(
        self,
        node: str,
        state: str,
        mode: str | None,
        sockets: int,
        canary: timedelta | None,
        started: datetime,
    ) -> Wanted:
        """Say that this relay lives."""
        rows = await self._call(
            "select * from after_hours.relay_beat($1, $2, $3, $4, $5, $6)",
            node,
            state,
            mode,
            sockets,
            canary,
            started,
        )
        row = rows[0]
        return Wanted(row["wants_rescue"], row["wants_receipts"], row["heartbeat_age"], row["queue_usage"])

    async def rescue(self) -> str:
        """Announce once for a scheduler that has stopped. Raises asyncpg.PostgresError: AH061, AH062."""
        return str((await self._call("select after_hours.relay_rescue()"))[0][0])

    async def receipts(self, node: str, rows: Sequence[tuple[Event, datetime, datetime | None]]) -> None:
        """Remember first writes and acknowledgements."""
        await self._call(
            "select after_hours.relay_receipts($1, $2, $3, $4, $5, $6)",
            node,
            [event.id for event, _, _ in rows],
            [event.uid for event, _, _ in rows],
            [event.user for event, _, _ in rows],
            [written for _, written, _ in rows],
            [acked for _, _, acked in rows],
        )

    async def status(self) -> str:
        """Aggregates of the database as JSON text, over a connection of its own: no client waits behind it."""
        connection = await self._connect()
        try:
            return str(await connection.fetchval("select after_hours.relay_status()", timeout=STATUS_SECONDS))
        finally:
            await connection.close(timeout=1)

    async def _call(self, call: str, *values: Any) -> list[Any]:
        async with self._calls:
            return await self._fetch(self._calling, call, *values)

    async def _fetch(self, connection: asyncpg.Connection[Any], call: str, *values: Any) -> list[Any]:
        if not self._pooled:
            return list(await connection.fetch(call, *values))
        async with connection.transaction():
            return list(await connection.fetch(call, *values))
