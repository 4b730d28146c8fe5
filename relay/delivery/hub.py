"""Who is connected and what each was sent; every write passes one check, id > last. Knows no event types.

Joining, this way and no other: register as holding, relay_attach, hello, replayed rows, held rows, let go.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from relay import protocol
from relay.delivery.attach import AttachQueue
from relay.delivery.connection import Connection, Hold
from relay.records import UNKNOWN, AttachRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from uuid import UUID

    from relay.auth import Identity
    from relay.delivery.attach import Attach, Waiter
    from relay.delivery.connection import Transport
    from relay.delivery.receipts import Receipts
    from relay.metrics import Metrics
    from relay.records import AttachResult, Cursor, Event, Page

MAX_HELD = 1000  # rows


class Hub:
    """All connections of this process. Everything but attach_forever() is synchronous: one turn, one state."""

    def __init__(self, node: str, metrics: Metrics, receipts: Receipts) -> None:
        self.node = node
        self.metrics = metrics
        self.receipts = receipts
        self.users: dict[UUID, list[Connection]] = {}
        self.count = 0
        self.left = 0  # clients that were here, ever
        self.cursor: Cursor | None = None
        self._is_stale = False
        self._queue = AttachQueue(self._answer)

    @property
    def incarnation(self) -> str | None:
        """Which server and epoch the log is followed in; None until it has been read."""
        return self._queue.incarnation

    # ---- joining and leaving

    def join(self, identity: Identity, transport: Transport, cursor: Cursor | None, now: float) -> Connection:
        """Register a client as holding and ask where it starts."""
        connection = Connection(identity, transport, cursor, joined_at=now, pinged_at=now, drained_at=now)
        self.users.setdefault(identity.user, []).append(connection)
        self.count += 1
        self._hold(connection, "hello")
        return connection

    def leave(self, connection: Connection) -> None:
        """Forget a client; harmless when it is forgotten already."""
        if connection.held is not None:
            self._queue.drop(connection.held.request, connection)
            connection.held = None
        connections = self.users.get(connection.identity.user, [])
        if connection in connections:
            connections.remove(connection)
            self.count -= 1
            self.left += 1
            if not connections:
                del self.users[connection.identity.user]

    def close(self, connection: Connection, code: int, retry_ms: int, **details: str) -> None:
        """Close a client's connection, saying when to come back."""
        self.metrics.closed.labels(str(code)).inc()
        connection.transport.close(code, protocol.close_reason(retry_ms, **details))
        self.leave(connection)

    def sync(self, connection: Connection) -> None:
        """Answer with a fresh snapshot; one at a time for each client."""
        if connection.held is None:
            self._hold(connection, "snapshot")
        else:
            connection.held.wants_sync = True

    def connections(self) -> list[Connection]:
        """Every client, as a list that may be walked while clients leave."""
        return [connection for connections in self.users.values() for connection in connections]

    @contextmanager
    def question(self, identity: Identity, cursor: Cursor | None) -> Iterator[asyncio.Future[AttachResult | None]]:
        """Ask relay_attach for as long as the block lasts: the result, or None if there is none for this user."""
        request = AttachRequest(identity.user, cursor, identity.issued_at)
        answered: asyncio.Future[AttachResult | None] = asyncio.get_running_loop().create_future()
        self._queue.put(request, answered)
        try:
            yield answered
        finally:
            self._queue.drop(request, answered)

    def _hold(self, connection: Connection, kind: str | None) -> None:
        request = AttachRequest(connection.identity.user, connection.cursor, connection.identity.issued_at)
        connection.held = Hold(kind, request)
        self._queue.put(request, connection)

    def _answer(self, waiter: Waiter, result: AttachResult | None) -> None:
        if not isinstance(waiter, Connection):
            if not waiter.done():
                waiter.set_result(result)
        elif result is None:
            self.close(waiter, protocol.CloseCode.FAILED, protocol.jitter_ms(2_000, 10_000))
        else:
            self._start(waiter, result)

    def _start(self, connection: Connection, result: AttachResult) -> None:
        hold = connection.held
        if hold is None:
            return
        kind = hold.kind
        if result.start == "blocked":
            self.refuse(connection, result.blocked_ms)
            return
        if not connection.has_hello:
            kind = "hello"
        elif result.start == "reset":
            kind = "reset"
        if kind is not None and result.state is not None:
            frame = protocol.snapshot(kind, self.node, connection.identity.expires_at, result.state)
            connection.transport.write(frame, result.cursor)
            connection.cursor = result.cursor
        connection.has_hello = True
        connection.held, connection.last = None, 0
        for event in result.events:
            self._deliver(connection, event)
        connection.last = result.head
        for event in hold.events:
            self._deliver(connection, event)
        if not self._is_stale:
            self._live(connection)
        if hold.wants_sync:
            self.sync(connection)

    def refuse(self, connection: Connection, blocked_ms: int | None) -> None:
        """Close a client that a moderator has blocked, or whose token is older than a moderator allows."""
        if blocked_ms is not None:
            self.close(connection, protocol.CloseCode.BLOCKED, blocked_ms)
        else:
            self.close(connection, protocol.CloseCode.TOKEN, 1000)

    def block_questions(self, users: Iterable[UUID]) -> list[AttachRequest]:
        """One question for each token of these users; only whether it is blocked counts of the results."""
        tokens = {
            (user, connection.identity.issued_at): None for user in users for connection in self.users.get(user, ())
        }
        return [AttachRequest(user, UNKNOWN, issued_at) for user, issued_at in tokens]

    def refuse_token(self, user: UUID, issued_at: datetime, blocked_ms: int | None) -> None:
        """Close the clients of a user whose token was issued then."""
        for connection in tuple(self.users.get(user, ())):
            if connection.identity.issued_at == issued_at:
                self.refuse(connection, blocked_ms)

    # ---- following the log

    def take(self, page: Page) -> None:
        """Pass on what relay_events answered. Ids of two incarnations don't compare: then every client starts again."""
        if (self.incarnation is not None and page.incarnation != self.incarnation) or page.start == "reset":
            self.attach_afresh()
        for event in page.events:
            self.metrics.events.inc()
            for connection in tuple(self.users.get(event.user, ())):
                self._deliver(connection, event)
        for block in page.blocks:
            for connection in list(self.users.get(block.user, ())):
                outdated = block.issued_before is not None and connection.identity.issued_at < block.issued_before
                if outdated or block.blocked_ms is not None:
                    self.refuse(connection, block.blocked_ms)
        self.cursor = page.cursor
        self._queue.resume(page.incarnation)

    def attach_afresh(self) -> None:
        """Make every client join again with its own cursor; what was held or asked before counts no more."""
        self._queue.invalidate()
        for connection in self.connections():
            if connection.held is None:
                self._hold(connection, None)
            else:
                connection.held.events.clear()

    def send_stale(self, since: float) -> None:
        """Send `stale` to all clients: nothing has been read since then."""
        self._is_stale = True
        frame = protocol.message("stale", since=protocol.format_instant(since))
        for connection in self.connections():
            if connection.has_hello and connection.replayed is None:
                connection.replayed = 0
                connection.transport.write(frame)

    def send_live(self) -> None:
        """Send `live` with the number of events replayed since `stale`; to a joining client after its hello."""
        self._is_stale = False
        for connection in self.connections():
            if connection.held is None:
                self._live(connection)

    def _live(self, connection: Connection) -> None:
        if connection.replayed is not None:
            connection.transport.write(protocol.message("live", replayed=connection.replayed))
            connection.replayed = None

    def invalidate_attaches(self) -> None:
        """Invalidate attach results still in flight."""
        self._queue.invalidate()

    def _deliver(self, connection: Connection, event: Event) -> None:
        if connection.held is not None:
            connection.held.events.append(event)
            if len(connection.held.events) > MAX_HELD:
                self.close(connection, protocol.CloseCode.TRY_LATER, protocol.jitter_ms(500, 3000))
        elif event.id > connection.last:
            connection.last = event.id
            if connection.transport.write(event.frame, event.cursor):
                connection.cursor = event.cursor
                if connection.replayed is not None:
                    connection.replayed += 1
                self.receipts.written(connection, event)

    def waiting(self) -> int:
        """How many questions wait to be asked."""
        return len(self._queue)

    async def attach_forever(self, attach: Attach) -> None:
        """Answer who joins, until the process ends. `attach` raises TimeoutError and ConnectionError."""
        await self._queue.run(attach)
