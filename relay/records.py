"""The rows that go through the relay, and what it keeps for each client; data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta
    from uuid import UUID

    from relay.auth import Identity
    from relay.websocket.stock import Sink


@dataclass(slots=True)
class Event:
    """One row of after_hours.events, as it goes out: `frame` is its finished JSON text, framed."""

    id: int
    uid: UUID
    user: UUID
    cursor: str
    frame: bytes
    due_at: datetime
    emitted_at: datetime


@dataclass(slots=True)
class Block:
    """A moderator's word on a user: older tokens are void; blocked_ms: how long no token is let in."""

    user: UUID
    issued_before: datetime | None
    blocked_ms: int | None


@dataclass(slots=True)
class Page:
    """One answer of relay_events."""

    life: str
    start: str
    cursor: str
    more: bool
    events: list[Event] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


@dataclass(slots=True)
class Answer:
    """One user's row of relay_attach."""

    life: str
    head: int
    start: str
    cursor: str
    state: str | None
    blocked_ms: int | None
    events: list[Event]


@dataclass(slots=True)
class Wanted:
    """What relay_beat says is wanted of this relay."""

    rescue: bool
    receipts: bool
    heartbeat_age: timedelta | None
    queue_usage: float


@dataclass(slots=True, eq=False)
class Socket:
    """One client. `held` is a list while it joins, `replayed` a number while it believes us stale."""

    identity: Identity
    sink: Sink
    cursor: str | None
    joined_at: float
    pinged_at: float
    last: int = 0
    held: list[Event] | None = None
    has_hello: bool = False
    wants_sync: bool = False
    replayed: int | None = None
    was_warned: bool = False
    drained: int = 0
    drained_at: float = 0.0
    unacked: list[Event] | None = None


@dataclass(slots=True)
class Ask:
    """A question to relay_attach and what to do with its answer."""

    user: UUID
    cursor: str | None
    issued_at: datetime
    answer: Callable[[Answer], None]
