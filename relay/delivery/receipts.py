"""Collects what was written and acknowledged, for relay_receipts once a second; what is too much is dropped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from relay.delivery.connection import Connection
    from relay.metrics import Metrics
    from relay.records import Cursor, Event

    Receipt = tuple[Event, datetime, datetime | None]  # when first written, when first acknowledged

MAX_PENDING = 20_000  # events; beyond it receipts are dropped and counted
MAX_UNACKED = 32  # events a client may be behind with acknowledging


class Receipts:
    """First writes and acknowledgements that are not in the database yet."""

    def __init__(self, metrics: Metrics) -> None:
        self.wanted = True
        self._metrics = metrics
        self._pending: dict[UUID, Receipt] = {}

    def written(self, connection: Connection, event: Event) -> None:
        """An event went to one of its user's connections."""
        now = datetime.now(UTC)
        self._metrics.sent(event, now)
        if not self.wanted:
            return
        if connection.unacked is None:
            connection.unacked = [event]
        else:
            connection.unacked.append(event)
            if len(connection.unacked) > MAX_UNACKED:
                del connection.unacked[0]
        if event.uid not in self._pending:
            self._put(event, now, None)

    def acked(self, connection: Connection, cursor: Cursor | None) -> None:
        """A client has handled everything up to a cursor: counts only for what this connection was sent."""
        unacked = connection.unacked or []
        sent = [event.cursor for event in unacked]
        if cursor not in sent:
            return
        handled = sent.index(cursor) + 1
        now = datetime.now(UTC)
        for event in unacked[:handled]:
            written = self._pending.get(event.uid, (event, now, None))[1]
            self._put(event, written, now)
        del unacked[:handled]

    def _put(self, event: Event, written: datetime, acked: datetime | None) -> None:
        if len(self._pending) >= MAX_PENDING:
            self._metrics.receipts_dropped.inc()
        else:
            self._pending[event.uid] = (event, written, acked)

    def take(self) -> list[Receipt]:
        """What is to be written now; the caller has it from here on."""
        rows = list(self._pending.values())
        self._pending.clear()
        return rows
