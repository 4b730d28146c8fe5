"""The only SQL of the relay: LISTEN and calls of named functions, over two connections to one server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

import asyncpg

from relay.database import rows as shape
from relay.database.faults import UnexpectedAnswer, is_lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, timedelta

    from relay.database.connect import Connector
    from relay.records import AttachRequest, AttachResult, Cursor, Event, Page, Rescued, Wanted

Given = ParamSpec("Given")
Made = TypeVar("Made")

EVENTS = "after_hours_events"
PROBE = "after_hours_probe"
STATUS_SECONDS = 10.0  # for the page /ops; no client waits for it
PAGE = 1000


def asked_again(call: Callable[Given, Awaitable[Made]]) -> Callable[Given, Awaitable[Made]]:
    """A call whose function gives up when a lock is not had for a second: it is made until it is had."""

    @wraps(call)
    async def until_had(*args: Given.args, **options: Given.kwargs) -> Made:
        while True:
            try:
                return await call(*args, **options)
            except UnexpectedAnswer as error:
                if not isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                    raise

    return until_had


class DatabaseSession:
    """A listening and a calling connection to one primary, opened and terminated together.

    is_pooled: a transaction pooler in between gives each transaction another backend. Then there is no LISTEN, nothing
    is prepared, and each call is a transaction of its own, which keeps it on one backend.

    A call raises UnexpectedAnswer, after which the session is as good as before, or what is_lost() is true for. While
    others have locked a table, read(), beat() and receipts() ask again.
    """

    def __init__(
        self, listening: asyncpg.Connection[Any], calling: asyncpg.Connection[Any], connector: Connector
    ) -> None:
        self.is_pooled = connector.is_pooled
        self._listening = listening
        self._calling = calling
        self._connector = connector
        self._calls = asyncio.Lock()

    @classmethod
    async def open(cls, connector: Connector, notified: Callable[[], None], probed: Callable[[str], None]) -> Self:
        """Connect to one host and LISTEN. Raises what asyncpg, the network or the clock raise."""
        listening, calling = await connector.open_pair()
        session = cls(listening, calling, connector)
        listening.add_termination_listener(lambda _connection: notified())
        if session.is_pooled:
            return session
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

    @asked_again
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
        """Where each of these users starts and what it has missed: in their order, all from one snapshot."""
        return await self._call(
            lambda rows: shape.results_of(rows, requests),
            "select * from after_hours.relay_attach($1, $2, $3)",
            [request.user for request in requests],
            [request.cursor for request in requests],
            [request.issued_at for request in requests],
        )

    async def probe(self, nonce: str) -> None:
        """NOTIFY the nonce.

        Sent on the calling connection, so that a reply proves that LISTEN receives other sessions' NOTIFYs.
        """
        await self._call(len, "select after_hours.relay_probe($1)", nonce)

    @asked_again
    async def beat(
        self,
        node: str,
        state: str,
        mode: str | None,
        sockets: int,
        round_trip: timedelta | None,
        started: datetime,
    ) -> Wanted:
        """Report this relay's state. `round_trip`: the last one of the probe."""
        return await self._call(
            shape.wanted_of,
            "select * from after_hours.relay_beat($1, $2, $3, $4, $5, $6)",
            node,
            state,
            mode,
            sockets,
            round_trip,
            started,
        )

    async def rescue(self) -> Rescued:
        """One announce pass on behalf of a stopped scheduler. Also raises UnexpectedAnswer for AH061 and AH062."""
        return await self._call(shape.rescued_of, "select * from after_hours.relay_rescue()")

    @asked_again
    async def receipts(self, node: str, rows: Sequence[tuple[Event, datetime, datetime | None]]) -> None:
        """Store first writes and acknowledgements: (event, written, acknowledged)."""
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
        """Aggregates of the database as JSON text, over a connection of its own: no other call waits for it."""
        connection = await self._connector.open_one()
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
        """What `made` makes of the rows. What it raises is an UnexpectedAnswer, as an error of the function is."""
        try:
            if not self.is_pooled:
                return made(await connection.fetch(call, *values, timeout=seconds))
            async with connection.transaction():
                for name, value in self._connector.local_settings.items():
                    await connection.fetch("select pg_catalog.set_config($1, $2, true)", name, value)
                return made(await connection.fetch(call, *values, timeout=seconds))
        except UnexpectedAnswer:
            raise
        except Exception as error:
            if is_lost(error):
                raise
            raise UnexpectedAnswer(f"{type(error).__name__}: {error}") from error
