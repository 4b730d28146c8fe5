"""One client as the hub sees it: Connection, what its frames are written to, and what its messages go to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from relay.auth import Identity
    from relay.records import AttachRequest, Cursor, Event


class Transport(Protocol):
    """How the hub writes to one client, by a WebSocket or a stream. Nothing here waits, but set_handler()."""

    @property
    def received_at(self) -> float:
        """Loop time in s at which the last bytes came from the client."""

    credit: int
    """Bytes that the client may still send; below zero it is disconnected for flooding."""

    is_slow: bool
    """True once the client was closed for the bytes it did not read."""

    def write(self, frame: bytes, cursor: Cursor | None = None) -> bool:
        """Queue a complete frame; False if the client has disconnected or is now closed for being too slow.

        cursor: the place that the client is at once it has handled the frame; None: where it was.
        """

    def ping(self, frame: bytes) -> None:
        """Send a frame, and what makes the client answer if its kind can."""

    def close(self, code: int, reason: str) -> None:
        """Say why, and end; the connection is aborted if the client doesn't end it in CLOSE_SECONDS."""

    def abort(self) -> None:
        """Close the TCP connection at once."""

    def buffered(self) -> int:
        """Bytes written that the kernel hasn't taken yet."""

    def drained(self) -> int:
        """Bytes the kernel has taken since the beginning: does not grow while a client is stuck."""

    async def set_handler(self, handler: Handler, connection: Connection) -> None:
        """Pass messages to the handler from here on. Returns at once, or when the client has disconnected."""


class Handler(Protocol):
    """What an authenticated client's messages go to: one object for all clients."""

    def on_message(self, connection: Connection, message: dict[str, Any]) -> None:
        """Take one ASGI message (websocket.receive)."""

    def on_close(self, connection: Connection) -> None:
        """The client has disconnected. May be called more than once."""


@dataclass(slots=True)
class Hold:
    """What a client that waits for an attach result is sent with it.

    kind: the type of the frame that answers, None for none. events: those read in between.
    """

    kind: str | None
    request: AttachRequest
    events: list[Event] = field(default_factory=list)
    wants_sync: bool = False


@dataclass(slots=True, eq=False)
class Connection:
    """One authenticated client. Times are loop time in s.

    last: id of the last event written. held: set while it waits for an attach result. replayed: events written since
    it was sent `stale`, None while it is not stale. drained: what transport.drained() was at drained_at. unacked:
    events written and not acknowledged yet.
    """

    identity: Identity
    transport: Transport
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
