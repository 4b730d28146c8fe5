"""Server-sent events (HTML Living Standard, 9.2): the Transport of clients that can't have a WebSocket.

Each frame is a `data:` line with the same text; `id:` is the cursor to come back with. Only complete events are
written, within the same bounds as for WebSockets. The client sends nothing: TCP_USER_TIMEOUT finds a dead one.

WAITING --write()--> OPEN --close(): a comment with code and reason--> OVER --it closes, or CLOSE_SECONDS--> gone
   +------close(): an HTTP answer with the code---------------------> OVER
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from http import HTTPStatus
from typing import TYPE_CHECKING

from relay import protocol
from relay.frames import payload
from relay.protocol import CloseCode
from relay.websocket.flow_control import CLOSE_SECONDS, CREDIT, write_or_close
from relay.websocket.request import answer_head, refusal

if TYPE_CHECKING:
    from uvicorn.server import ServerState

    from relay.delivery.connection import Connection, Handler
    from relay.records import Cursor
    from relay.websocket.limits import AddressUsage

    Headers = list[tuple[bytes, bytes]]

HEADERS = [
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-store, no-transform"),  # compressing proxies would collect events before they pass them on
    (b"X-Accel-Buffering", b"no"),  # nginx and those that follow it: pass on what comes, whatever proxy_buffering says
]
REFUSALS: dict[int, tuple[HTTPStatus, str]] = {
    CloseCode.TOKEN: (HTTPStatus.UNAUTHORIZED, "token"),
    CloseCode.BLOCKED: (HTTPStatus.FORBIDDEN, "blocked"),
    CloseCode.TOO_MANY: (HTTPStatus.TOO_MANY_REQUESTS, "too_many"),
}


class EventStreamProtocol(asyncio.Protocol):
    """One stream of events, from its complete request to its end; also the hub's Transport."""

    __slots__ = (
        "_connection", "_ending", "_handler", "_head", "_headers", "_is_over", "_server_state", "_transport", "_usage",
        "_written", "credit", "is_slow",
    )  # fmt: skip

    def __init__(
        self, usage: AddressUsage, transport: asyncio.Transport, server_state: ServerState, headers: Headers
    ) -> None:
        self._usage, self._transport, self._server_state = usage, transport, server_state
        self._headers = headers
        self._head = answer_head(HTTPStatus.OK, [*HEADERS, *headers])  # empty once it has been sent
        self._written = 0
        self._is_over = False
        self._handler: Handler | None = None
        self._connection: Connection  # set while _handler is
        self._ending: asyncio.TimerHandle | None = None
        self.credit = CREDIT
        self.is_slow = False

    def start(self) -> None:
        """Take over a connection whose request has been read and not been answered."""
        self._server_state.connections.add(self)  # type: ignore[arg-type] # typed for uvicorn's own protocols
        self._transport.set_protocol(self)

    # ---- Transport, for the hub

    @property
    def received_at(self) -> float:
        """Never silent: a client of a stream has nothing to say."""
        return math.inf

    def write(self, frame: bytes, cursor: Cursor | None = None) -> bool:
        """Queue a frame as an event; False if the client has disconnected or is now closed for being too slow."""
        if self._is_over:
            return False
        place = f"id: {cursor}\n".encode() if cursor else b""
        data = b"%b%bdata: %b\n\n" % (self._head, place, payload(frame))
        if not write_or_close(self._transport, self, data):
            return False
        self._head = b""
        self._written += len(data)
        return True

    def ping(self, frame: bytes) -> None:
        """Send a frame that shows that the connection is alive."""
        self.write(frame)

    def close(self, code: int, reason: str) -> None:
        """Say why it ends, and end it; aborted if the client has not read that in CLOSE_SECONDS."""
        if self._is_over or self._transport.is_closing():
            return
        self._is_over = True
        self._transport.write(self._refusal(code, reason) if self._head else closed(code, reason))
        self._ending = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)
        with contextlib.suppress(OSError):  # the client may be gone already
            self._transport.write_eof()
        self._release()

    def abort(self) -> None:
        """Close the TCP connection at once."""
        self._transport.abort()

    def buffered(self) -> int:
        """Bytes written that the kernel hasn't taken yet."""
        return self._transport.get_write_buffer_size()

    def drained(self) -> int:
        """Bytes the kernel has taken since the beginning."""
        return self._written - self.buffered()

    async def set_handler(self, handler: Handler, connection: Connection) -> None:
        """Tell the handler when the client has disconnected; returns at once."""
        if self._is_over or self._transport.is_closing():
            handler.on_close(connection)
        else:
            self._handler, self._connection = handler, connection

    # ---- asyncio.Protocol, for the network

    def data_received(self, data: bytes) -> None:
        """Drop what comes after the request; a client that sends a lot is cut."""
        self.credit -= len(data)
        if self.credit < 0:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after the connection closed, from either side."""
        self._is_over = True
        self._server_state.connections.discard(self)
        self._usage.release()
        if self._ending is not None:
            self._ending.cancel()
        self._release()

    def shutdown(self) -> None:
        """End the stream and close: uvicorn is shutting down."""
        self.close(CloseCode.RESTART, protocol.close_reason(protocol.jitter_ms(0, 2000)))
        self._transport.close()

    # ---- inside

    def _refusal(self, code: int, reason: str) -> bytes:
        """The answer to a client that gets no stream: the same as a close frame says to a WebSocket."""
        said = json.loads(reason)
        retry = str(math.ceil(said["retryAfterMs"] / 1000)).encode()
        status, word = REFUSALS.get(code, (HTTPStatus.SERVICE_UNAVAILABLE, "try_later"))
        return refusal(
            status,
            json.dumps({"error": word, "code": code, **said}).encode(),
            [*self._headers, (b"Retry-After", retry)],
        )

    def _release(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.on_close(self._connection)
            del self._connection  # breaks the reference cycle, so that both are freed without the garbage collector


def closed(code: int, reason: str) -> bytes:
    """The end of a stream: a comment with what a close frame says, and when an EventSource is to come back."""
    return f": closed {code} {reason}\nretry: {json.loads(reason)['retryAfterMs']}\n\n".encode()
