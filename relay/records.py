"""Rows of the database's functions as Python types; data only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, NewType

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from uuid import UUID

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
    known_ahead: bool = False  # its lateness is the announcer's own; false as well for what a client had missed


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
class Rescued:
    """What relay_rescue has done: events written by type, sessions skipped because locked; whether more is due."""

    expired: int
    expiring: int
    skipped: int
    has_more: bool
