"""The rows that go through the relay, and what it keeps for each client; data only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, NewType

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from uuid import UUID

    from relay.auth import Identity
    from relay.websocket.stock import Sink


Cursor = NewType("Cursor", str)  # made by parse_cursor() or read from the database: safe to send there
UNKNOWN: Final = Cursor("unknown")  # stands for every text that is no cursor; relay_attach answers it with a reset
CURSOR = re.compile(r"[0-9a-f]{8}-[0-9]{1,18}")


def parse_cursor(value: object) -> Cursor | None:
    """A client's `after`: None when it is missing or empty, UNKNOWN when it is anything but a cursor."""
    if value is None or value == "":
        return None
    return Cursor(value) if isinstance(value, str) and CURSOR.fullmatch(value) else UNKNOWN


@dataclass(slots=True)
class Event:
    """One row of after_hours.events, as it goes out: `frame` is its finished JSON text, framed."""

    id: int
    uid: UUID
    user: UUID
    cursor: Cursor
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

    incarnation: str
    start: str
    cursor: Cursor
    more: bool
    events: list[Event] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


class AttachRequest(NamedTuple):
    """A question to relay_attach. Equal questions that wait at the same time are asked once."""

    user: UUID
    cursor: Cursor | None
    issued_at: datetime


@dataclass(slots=True)
class AttachResult:
    """One user's row of relay_attach; `body` is the answer to GET /events, made once for all that asked."""

    incarnation: str
    head: int
    start: str
    cursor: Cursor
    state: str | None
    blocked_ms: int | None
    events: list[Event]
    body: bytes | None = None


@dataclass(slots=True)
class Wanted:
    """What relay_beat says is wanted of this relay."""

    rescue: bool
    receipts: bool
    heartbeat_age: timedelta | None
    queue_usage: float


@dataclass(slots=True)
class Hold:
    """A client that waits for an attach result: the frame to answer with, and the events read in between."""

    kind: str | None
    request: AttachRequest
    events: list[Event] = field(default_factory=list)
    wants_sync: bool = False


@dataclass(slots=True, eq=False)
class Socket:
    """One client. `replayed` is a number while it believes us stale."""

    identity: Identity
    sink: Sink
    cursor: Cursor | None
    joined_at: float
    pinged_at: float
    last: int = 0
    held: Hold | None = None
    has_hello: bool = False
    replayed: int | None = None
    was_warned: bool = False
    drained: int = 0
    drained_at: float = 0.0
    unacked: list[Event] | None = None
