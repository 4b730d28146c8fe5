"""The only SQL of the relay: LISTEN and calls of named functions, over two connections to one server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from relay.database import rows as shape
from relay.database.faults import StrangeAnswer, is_lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, timedelta

    from relay.records import AttachRequest, AttachResult, Cursor, Event, Page, Wanted
    from relay.settings import Settings

Made = TypeVar("Made")

EVENTS = "after_hours_events"
PROBE = "after_hours_probe"
CALL_SECONDS = 2.5  # a call that takes longer counts as a dead server
STATUS_SECONDS = 10.0  # somebody looks at a page; nothing waits for it
PAGE = 1000


class DatabaseSession:
    """A listening and a calling connection to one primary; both live and die together.

    pooled: somebody in between hands out another backend for each transaction. Then nothing may be prepared, and
    each call is a transaction of its own, which keeps it on one backend.

    A call raises StrangeAnswer, after which the session is as good as before, or what is_lost() tells: then it is not.
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
            session = cls(listening, await connect(), connect, pooled)
        except BaseException:
            listening.terminate()
            raise
        listening.add_termination_listener(lambda _connection: notified())
        try:
            await listening.add_listener(EVENTS, lambda *_ignored: notified())
            await listening.add_listener(PROBE, lambda _connection, _pid, _channel, payload: probed(str(payload)))
        except BaseException:
            session.terminate()
            raise
        return session

    def terminate(self) -> None:
        """Drop both connections at once, whatever the network does."""
        for connection in (self._listening, self._calling):
            with suppress(Exception):
                connection.terminate()

    async def read(self, cursor: Cursor | None) -> Page:
        """Everything announced since the cursor, one page."""
        return await self._fetch(
            self._listening,
            lambda rows: shape.page_of(rows, cursor),
            "select * from after_hours.relay_events($1, $2)",
            cursor,
            PAGE,
        )

    async def attach(self, requests: Sequence[AttachRequest]) -> list[AttachResult]:
        """Where each of these users starts and what it has missed, of one snapshot."""
        return await self._call(
            lambda rows: shape.results_of(rows, requests),
            "select * from after_hours.relay_attach($1, $2, $3)",
            [request.user for request in requests],
            [request.cursor for request in requests],
            [request.issued_at for request in requests],
        )

    async def probe(self, nonce: str) -> None:
        """Send the canary, on the calling connection: only a LISTEN that hears others brings it back."""
        await self._call(len, "select after_hours.relay_probe($1)", nonce)

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
        return await self._call(
            shape.wanted_of,
            "select * from after_hours.relay_beat($1, $2, $3, $4, $5, $6)",
            node,
            state,
            mode,
            sockets,
            canary,
            started,
        )

    async def rescue(self) -> str:
        """Announce once for a scheduler that has stopped. Also raises StrangeAnswer for AH061 and AH062."""
        return await self._call(shape.text_of, "select after_hours.relay_rescue()")

    async def receipts(self, node: str, rows: Sequence[tuple[Event, datetime, datetime | None]]) -> None:
        """Remember first writes and acknowledgements."""
        await self._call(
            len,
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
            call = "select after_hours.relay_status()"
            return await self._fetch(connection, shape.text_of, call, seconds=STATUS_SECONDS)
        finally:
            await connection.close(timeout=1)

    async def _call(self, made: Callable[[list[Any]], Made], call: str, *values: Any) -> Made:
        async with self._calls:
            return await self._fetch(self._calling, made, call, *values)

    async def _fetch(
        self,
        connection: asyncpg.Connection[Any],
        made: Callable[[list[Any]], Made],
        call: str,
        *values: Any,
        seconds: float | None = None,
    ) -> Made:
        """What `made` makes of the rows: what it can't be made of is as strange as an error of the function."""
        try:
            if not self._pooled:
                return made(await connection.fetch(call, *values, timeout=seconds))
            async with connection.transaction():
                return made(await connection.fetch(call, *values, timeout=seconds))
        except StrangeAnswer:
            raise
        except Exception as error:
            if is_lost(error):
                raise
            raise StrangeAnswer(f"{type(error).__name__}: {error}") from error
