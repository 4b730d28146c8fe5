"""Collects what was written and acknowledged, for relay_receipts once a second; drops it rather than wait."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from relay.health import Metrics
    from relay.records import Event, Socket

MAX_PENDING = 20_000  # events; beyond it receipts are dropped and counted
MAX_UNACKED = 32  # events a client may be behind with acknowledging


class Receipts:
    """First writes and acknowledgements that are not in the database yet."""

    def __init__(self, metrics: Metrics) -> None:
        self.wanted = True
        self._metrics = metrics
        self._pending: dict[UUID, tuple[Event, datetime, datetime | None]] = {}

    def written(self, socket: Socket, event: Event) -> None:
        """An event went to one of its user's sockets."""
        now = datetime.now(UTC)
        self._metrics.sent(event, now)
        if not self.wanted:
            return
        if socket.unacked is None:
            socket.unacked = deque(maxlen=MAX_UNACKED)
        socket.unacked.append(event)
        if event.uid not in self._pending:
            self._put(event, now, None)

    def acked(self, socket: Socket, cursor: object) -> None:
        """A client has handled everything up to a cursor: counts only for what this socket was sent."""
        unacked = socket.unacked
        if not unacked or all(event.cursor != cursor for event in unacked):
            return
        now = datetime.now(UTC)
        while unacked:
            event = unacked.popleft()
            written = self._pending.get(event.uid, (event, now, None))[1]
            self._put(event, written, now)
            if event.cursor == cursor:
                return

    def _put(self, event: Event, written: datetime, acked: datetime | None) -> None:
        if len(self._pending) >= MAX_PENDING:
            self._metrics.receipts_dropped.inc()
        else:
            self._pending[event.uid] = (event, written, acked)

    def take(self) -> list[tuple[Event, datetime, datetime | None]]:
        """What is to be written now; the caller has it from here on."""
        rows = list(self._pending.values())
        self._pending.clear()
        return rows
