"""Who is connected and what each was sent; every write passes one check, id > last. Knows no event types.

Joining, this way and no other: register as holding, relay_attach, hello, replayed rows, held rows, let go.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from relay import protocol
from relay.delivery.attach import AttachQueue
from relay.records import UNKNOWN, AttachRequest, Hold, Socket

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from uuid import UUID

    from relay.admin.health import Metrics
    from relay.auth import Identity
    from relay.delivery.attach import Attach, Waiter
    from relay.delivery.receipts import Receipts
    from relay.records import AttachResult, Cursor, Event, Page
    from relay.websocket.stock import Sink

MAX_HELD = 1000  # rows


class Hub:
    """All sockets of this process. Everything but attach_forever() is synchronous: one turn, one state."""

    def __init__(self, node: str, metrics: Metrics, receipts: Receipts) -> None:
        self.node = node
        self.metrics = metrics
        self.receipts = receipts
        self.users: dict[UUID, list[Socket]] = {}
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

    def join(self, identity: Identity, sink: Sink, cursor: Cursor | None, now: float) -> Socket:
        """Register a client as holding and ask where it starts."""
        socket = Socket(identity, sink, cursor, joined_at=now, pinged_at=now, drained_at=now)
        self.users.setdefault(identity.user, []).append(socket)
        self.count += 1
        self._hold(socket, "hello")
        return socket

    def leave(self, socket: Socket) -> None:
        """Forget a client; harmless when it is forgotten already."""
        if socket.held is not None:
            self._queue.drop(socket.held.request, socket)
            socket.held = None
        sockets = self.users.get(socket.identity.user, [])
        if socket in sockets:
            sockets.remove(socket)
            self.count -= 1
            self.left += 1
            if not sockets:
                del self.users[socket.identity.user]

    def close(self, socket: Socket, code: int, retry_ms: int) -> None:
        """Close a client's connection, saying when to come back."""
        self.metrics.closed.labels(str(code)).inc()
        socket.sink.close(code, protocol.close_reason(retry_ms))
        self.leave(socket)

    def sync(self, socket: Socket) -> None:
        """Answer with a fresh snapshot; one at a time for each client."""
        if socket.held is None:
            self._hold(socket, "snapshot")
        else:
            socket.held.wants_sync = True

    def sockets(self) -> list[Socket]:
        """Every client, as a list that may be walked while clients leave."""
        return [socket for sockets in self.users.values() for socket in sockets]

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

    def _hold(self, socket: Socket, kind: str | None) -> None:
        request = AttachRequest(socket.identity.user, socket.cursor, socket.identity.issued_at)
        socket.held = Hold(kind, request)
        self._queue.put(request, socket)

    def _answer(self, waiter: Waiter, result: AttachResult | None) -> None:
        if not isinstance(waiter, Socket):
            if not waiter.done():
                waiter.set_result(result)
        elif result is None:
            self.close(waiter, protocol.CloseCode.FAILED, protocol.jitter_ms(2_000, 10_000))
        else:
            self._start(waiter, result)

    def _start(self, socket: Socket, result: AttachResult) -> None:
        hold = socket.held
        if hold is None:
            return
        kind = hold.kind
        if result.start == "blocked":
            self.refuse(socket, result.blocked_ms)
            return
        if not socket.has_hello:
            kind = "hello"
        elif result.start == "reset":
            kind = "reset"
        if kind is not None and result.state is not None:
            socket.sink.write(protocol.snapshot(kind, self.node, socket.identity.expires_at, result.state))
            socket.cursor = result.cursor
        socket.has_hello = True
        socket.held, socket.last = None, 0
        for event in result.events:
            self._deliver(socket, event)
        socket.last = result.head
        for event in hold.events:
            self._deliver(socket, event)
        if not self._is_stale:
            self._live(socket)
        if hold.wants_sync:
            self.sync(socket)

    def refuse(self, socket: Socket, blocked_ms: int | None) -> None:
        """Close a client that a moderator has blocked, or whose token is older than a moderator allows."""
        if blocked_ms is not None:
            self.close(socket, protocol.CloseCode.BLOCKED, blocked_ms)
        else:
            self.close(socket, protocol.CloseCode.TOKEN, 1000)

    def block_questions(self, users: Iterable[UUID]) -> list[AttachRequest]:
        """One question for each token of these users; only whether it is blocked counts of the results."""
        tokens = {(user, socket.identity.issued_at): None for user in users for socket in self.users.get(user, ())}
        return [AttachRequest(user, UNKNOWN, issued_at) for user, issued_at in tokens]

    def refuse_token(self, user: UUID, issued_at: datetime, blocked_ms: int | None) -> None:
        """Close the clients of a user whose token was issued then."""
        for socket in tuple(self.users.get(user, ())):
            if socket.identity.issued_at == issued_at:
                self.refuse(socket, blocked_ms)

    # ---- following the log

    def take(self, page: Page) -> None:
        """Pass on what relay_events answered. Ids of two incarnations don't compare: then every client starts again."""
        if (self.incarnation is not None and page.incarnation != self.incarnation) or page.start == "reset":
            self.attach_afresh()
        for event in page.events:
            self.metrics.events.inc()
            for socket in tuple(self.users.get(event.user, ())):
                self._deliver(socket, event)
        for block in page.blocks:
            for socket in list(self.users.get(block.user, ())):
                outdated = block.issued_before is not None and socket.identity.issued_at < block.issued_before
                if outdated or block.blocked_ms is not None:
                    self.refuse(socket, block.blocked_ms)
        self.cursor = page.cursor
        self._queue.resume(page.incarnation)

    def attach_afresh(self) -> None:
        """Make every client join again with its own cursor; what was held or asked before counts no more."""
        self._queue.invalidate()
        for socket in self.sockets():
            if socket.held is None:
                self._hold(socket, None)
            else:
                socket.held.events.clear()

    def tell_stale(self, since: float) -> None:
        """Say to everybody that nothing has been read since then."""
        self._is_stale = True
        frame = protocol.message("stale", since=protocol.format_instant(since))
        for socket in self.sockets():
            if socket.has_hello and socket.replayed is None:
                socket.replayed = 0
                socket.sink.write(frame)

    def tell_live(self) -> None:
        """Say to everybody who was told stale how much came after; who still joins hears it afterwards."""
        self._is_stale = False
        for socket in self.sockets():
            if socket.held is None:
                self._live(socket)

    def _live(self, socket: Socket) -> None:
        if socket.replayed is not None:
            socket.sink.write(protocol.message("live", replayed=socket.replayed))
            socket.replayed = None

    def lost(self) -> None:
        """The connection is gone: results that are still on their way count no more."""
        self._queue.invalidate()

    def _deliver(self, socket: Socket, event: Event) -> None:
        if socket.held is not None:
            socket.held.events.append(event)
            if len(socket.held.events) > MAX_HELD:
                self.close(socket, protocol.CloseCode.TRY_LATER, protocol.jitter_ms(500, 3000))
        elif event.id > socket.last:
            socket.last = event.id
            if socket.sink.write(event.frame):
                socket.cursor = event.cursor
                if socket.replayed is not None:
                    socket.replayed += 1
                self.receipts.written(socket, event)

    def waiting(self) -> int:
        """How many questions wait to be asked."""
        return len(self._queue)

    async def attach_forever(self, attach: Attach) -> None:
        """Answer who joins, until the process ends. `attach` raises TimeoutError and ConnectionError."""
        await self._queue.run(attach)
