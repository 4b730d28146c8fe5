"""The sink: how the hub writes to one client. Stock uvicorn underneath, frames straight to its transport.

Refuses to wait: a client that doesn't read is cut by bytes and time, never awaited.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from relay import frames
from relay.settings import split_address

if TYPE_CHECKING:
    from typing import Any

MAX_BUFFERED = 256 * 1024  # bytes; beyond it a client is too slow
CLOSE_SECONDS = 5.0  # how long a closing handshake may take


class Sink(Protocol):
    """All that the hub knows of a socket."""

    heard_at: float
    """Loop time at which anything last came from the client."""

    def write(self, frame: bytes) -> bool:
        """Queue a finished frame; False if the client is gone or was cut for being too slow."""

    def ping(self) -> None:
        """Send a protocol ping."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the connection is cut if it doesn't end in time."""

    def abort(self) -> None:
        """Cut the connection now."""

    def buffered(self) -> int:
        """Bytes written that the kernel hasn't taken yet."""

    def drained(self) -> int:
        """Bytes the kernel has taken since the beginning: stands still while a client is stuck."""


class StockProtocol(WebSocketsSansIOProtocol):
    """uvicorn's own protocol; gives the application a sink in scope["state"]["sink"], notes when it heard."""

    heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)

    async def run_asgi(self) -> None:
        cast("dict[str, Any]", self.scope)["state"]["sink"] = StockSink(self)
        await super().run_asgi()


class StockSink:
    """Sink over stock websockets-sansio; uvicorn is pinned to one minor version for it."""

    __slots__ = ("_protocol", "_written")

    def __init__(self, protocol: StockProtocol) -> None:
        self._protocol = protocol
        self._written = 0

    @property
    def heard_at(self) -> float:
        return self._protocol.heard_at

    def write(self, frame: bytes) -> bool:
        protocol = self._protocol
        transport = protocol.transport
        if protocol.close_sent or transport.is_closing():
            return False
        if transport.get_write_buffer_size() + len(frame) > MAX_BUFFERED:
            transport.abort()  # a close frame would wait behind what it doesn't read
            return False
        self._written += len(frame)
        transport.write(frame)
        return True

    def ping(self) -> None:
        self.write(frames.PING)

    def close(self, code: int, reason: str) -> None:
        protocol = self._protocol
        if protocol.close_sent or protocol.transport.is_closing():
            return
        # As uvicorn's own send("websocket.close"), without its wait for a client that doesn't read.
        protocol.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        try:
            protocol.conn.send_close(code, reason)
        except InvalidState:
            protocol.transport.abort()
            return
        protocol.transport.write(b"".join(protocol.conn.data_to_send()))
        protocol.close_sent = True
        if protocol.read_paused:
            protocol.read_paused = False
            protocol.transport.resume_reading()
        protocol.close_timer = protocol.loop.call_later(CLOSE_SECONDS, protocol.transport.abort)

    def abort(self) -> None:
        self._protocol.transport.abort()

    def buffered(self) -> int:
        return self._protocol.transport.get_write_buffer_size()

    def drained(self) -> int:
        return self._written - self.buffered()


def listening_socket(address: str) -> socket.socket:
    """A bound, listening socket whose clients spend little of the kernel's memory. Raises OSError."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=2048)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)  # accepted sockets inherit both
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000)
    return listening
