"""The only SQL of the relay: LISTEN and calls of named functions, over two connections to one server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import parse_qs, quote, urlencode, urlsplit, urlunsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from relay.database import rows as shape
from relay.database.faults import UnexpectedAnswer, is_lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, timedelta

    from relay.records import AttachRequest, AttachResult, Cursor, Event, Page, Wanted
    from relay.settings import Settings

Made = TypeVar("Made")

EVENTS = "after_hours_events"
PROBE = "after_hours_probe"
CALL_SECONDS = 2.5  # a call that takes longer counts as a dead server
STATUS_SECONDS = 10.0  # for the page /ops; no client waits for it
PAGE = 1000


class DatabaseSession:
    """A listening and a calling connection to one primary, opened and terminated together.

    pooled: a transaction pooler in between gives each transaction another backend. Then nothing may be prepared, and
    each call is a transaction of its own, which keeps it on one backend.

    A call raises UnexpectedAnswer, after which the session is as good as before, or what is_lost() is true for.
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

    async def rescue(self) -> str:
        """One announce pass on behalf of a stopped scheduler. Also raises UnexpectedAnswer for AH061 and AH062."""
        return await self._call(shape.text_of, "select after_hours.relay_rescue()")

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
        """What `made` makes of the rows. What it raises is an UnexpectedAnswer, as an error of the function is."""
        try:
            if not self._pooled:
                return made(await connection.fetch(call, *values, timeout=seconds))
            async with connection.transaction():
                return made(await connection.fetch(call, *values, timeout=seconds))
        except UnexpectedAnswer:
            raise
        except Exception as error:
            if is_lost(error):
                raise
            raise UnexpectedAnswer(f"{type(error).__name__}: {error}") from error


def split_hosts(dsn: str) -> list[str]:
    """One DSN for each host of a multi-host DSN, so that each can be tried with a timeout of its own."""
    url = urlsplit(dsn)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    login, at, hosts = url.netloc.rpartition("@")
    if "," in hosts:
        return [urlunsplit(url._replace(netloc=login + at + host)) for host in hosts.split(",")]
    if "," in query.get("host", ""):
        names = query["host"].split(",")
        ports = query.get("port", "").split(",")
        ports = ports * len(names) if len(ports) == 1 else ports
        each = [
            query | {"host": name} | ({"port": port} if port else {}) for name, port in zip(names, ports, strict=True)
        ]
        return [f"{dsn.partition('?')[0]}?{urlencode(one, quote_via=quote)}" for one in each]
    return [dsn]
