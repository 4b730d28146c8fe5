"""Who is connected and what each was sent; every write passes one check, id > last. Knows no event types.

Joining, this way and no other: register as holding, relay_attach, hello, replayed rows, held rows, let go.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from relay import frames
from relay.delivery.attach import Asking
from relay.records import Ask, Socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from relay.admin.health import Metrics
    from relay.auth import Identity
    from relay.delivery.receipts import Receipts
    from relay.records import Answer, Event, Page
    from relay.websocket.stock import Sink

log = logging.getLogger("relay.hub")

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
        self.cursor: str | None = None
        self._is_stale = False
        self._asking = Asking()

    @property
    def life(self) -> str | None:
        """Which server and epoch the log is followed in; None until it has been read."""
        return self._asking.life

    # ---- joining and leaving

    def join(self, identity: Identity, sink: Sink, cursor: str | None, now: float) -> Socket:
        """Register a client as holding and ask where it starts."""
        socket = Socket(identity, sink, cursor, joined_at=now, pinged_at=now, drained_at=now)
        self.users.setdefault(identity.user, []).append(socket)
        self.count += 1
        self._hold(socket, "hello")
        return socket

    def leave(self, socket: Socket) -> None:
        """Forget a client; harmless when it is forgotten already."""
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
        socket.sink.close(code, frames.retry(retry_ms))
        self.leave(socket)

    def sync(self, socket: Socket) -> None:
        """Answer with a fresh snapshot; one at a time for each client."""
        if socket.held is None:
            self._hold(socket, "snapshot")
        else:
            socket.wants_sync = True

    def sockets(self) -> list[Socket]:
        """Every client, as a list that may be walked while clients leave."""
        return [socket for sockets in self.users.values() for socket in sockets]

    def ask(self, identity: Identity, cursor: str | None, answer: Callable[[Answer], None]) -> None:
        """Ask relay_attach; `answer` is called when the hub's state and the answer belong together."""
        self._asking.put(Ask(identity.user, cursor, identity.issued_at, answer))

    def _hold(self, socket: Socket, kind: str | None) -> None:
        socket.held = []
        self.ask(socket.identity, socket.cursor, lambda answer: self._start(socket, kind, answer))

    def _start(self, socket: Socket, kind: str | None, answer: Answer) -> None:
        if socket.held is None or socket not in self.users.get(socket.identity.user, ()):
            return
        if answer.start == "blocked":
            self.refuse(socket, answer.blocked_ms)
            return
        if not socket.has_hello:
            kind = "hello"
        elif answer.start == "reset":
            kind = "reset"
        if kind is not None and answer.state is not None:
            socket.sink.write(frames.snapshot(kind, self.node, socket.identity.expires_at, answer.state))
            socket.cursor = answer.cursor
        socket.has_hello = True
        held, socket.held, socket.last = socket.held, None, 0
        for event in answer.events:
            self._deliver(socket, event)
        socket.last = answer.head
        for event in held:
            self._deliver(socket, event)
        if not self._is_stale:
            self._live(socket)
        if socket.wants_sync:
            socket.wants_sync = False
            self.sync(socket)

    def refuse(self, socket: Socket, blocked_ms: int | None) -> None:
        """Close a client that a moderator has blocked, or whose token is older than a moderator allows."""
        if blocked_ms is not None:
            self.close(socket, frames.BLOCKED, blocked_ms)
        else:
            self.close(socket, frames.TOKEN, 1000)

    # ---- following the log

    def take(self, page: Page) -> None:
        """Pass on what relay_events answered. Ids of two lives don't compare: then everybody starts again."""
        if (self.life is not None and page.life != self.life) or page.start == "reset":
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
        self._asking.followed(page.life)

    def attach_afresh(self) -> None:
        """Make every client join again with its own cursor; what was held or asked before is void."""
        self._asking.void()
        for socket in self.sockets():
            waits = socket.held is not None
            socket.held = []
            if not waits:
                self._hold(socket, None)

    def tell_stale(self, since: float) -> None:
        """Say to everybody that nothing has been read since then."""
        self._is_stale = True
        frame = frames.own("stale", since=frames.iso(since))
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
            socket.sink.write(frames.own("live", replayed=socket.replayed))
            socket.replayed = None

    def lost(self) -> None:
        """The connection is gone: answers that are still on their way count no more."""
        self._asking.void()

    def _deliver(self, socket: Socket, event: Event) -> None:
        if socket.held is not None:
            socket.held.append(event)
            if len(socket.held) > MAX_HELD:
                self.close(socket, frames.TRY_LATER, frames.jittered(500, 3000))
        elif event.id > socket.last:
            socket.last = event.id
            if socket.sink.write(event.frame):
                socket.cursor = event.cursor
                if socket.replayed is not None:
                    socket.replayed += 1
                self.receipts.written(socket, event)

    async def attach_forever(self, attach: Callable[[list[Ask]], Awaitable[list[Answer]]]) -> None:
        """Answer who joins, until the process ends. `attach` raises ConnectionError."""
        await self._asking.run(attach)
