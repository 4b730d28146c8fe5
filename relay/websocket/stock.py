"""The sink: how the hub writes to one client, and what follows it. The other one, PushProtocol, is in push.py.

Here: over stock uvicorn, frames straight to its transport. Refuses to wait: a client that doesn't read is cut by
bytes and time, never awaited.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from relay import frames, protocol
from relay.settings import split_address

if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from uvicorn import Config
    from uvicorn.server import ServerState
    from websockets.frames import Frame

    from relay.records import Socket
    from relay.websocket.limits import AddressUsage
    from relay.websocket.request import RequestHead

SEND_BUFFER = 64 * 1024  # bytes the kernel keeps for one client
MAX_BUFFERED = 192 * 1024  # bytes we keep; beyond it a client is too slow: 256 KiB is what one may cost
CLOSE_SECONDS = 5.0  # how long a closing handshake may take
# What a client may send: a replay's 500 acknowledgements at once, then little. The sweeper gives EARNED a second.
CREDIT, EARNED = 128 * 1024, 8 * 1024  # bytes
FRAME_COST = 64  # bytes that a frame counts for, beside its own
DECIDED = (b"upgrade", b"connection", b"sec-websocket-protocol", b"sec-websocket-extensions")
ACCEPTED_PER_TURN = 50  # connections; more would keep events waiting


class Follower(Protocol):
    """What a socket's messages go to, once it is authenticated."""

    def heard(self, socket: Socket, message: dict[str, Any]) -> None:
        """One ASGI message (websocket.receive)."""

    def gone(self, socket: Socket) -> None:
        """There is nobody any more; may come more than once."""


class Sink(Protocol):
    """All that the hub knows of a socket."""

    @property
    def heard_at(self) -> float:
        """Loop time at which anything last came from the client."""

    credit: int
    """Bytes that the client may still send; below zero it is flooding us."""

    is_slow: bool
    """True once the client was closed for the bytes it did not read."""

    def write(self, frame: bytes) -> bool:
        """Queue a finished frame; False if the client is gone or is now closed for being too slow."""

    def ping(self, frame: bytes) -> None:
        """Send a protocol ping and a frame, at the price of one."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the connection is cut if it doesn't end in time."""

    def abort(self) -> None:
        """Cut the connection now."""

    def buffered(self) -> int:
        """Bytes written that the kernel hasn't taken yet."""

    def drained(self) -> int:
        """Bytes the kernel has taken since the beginning: stands still while a client is stuck."""

    async def follow(self, follower: Follower, socket: Socket) -> None:
        """Pass messages on from here. Returns when it likes: at once, or when the client is gone."""


def put(transport: asyncio.Transport, sink: Sink, frame: bytes) -> bool:
    """Write a frame; False if the client is gone. Closes a client that has not read MAX_BUFFERED bytes.

    The close frame waits behind what was not read: a client that reads on within CLOSE_SECONDS still sees why.
    """
    if transport.is_closing():
        return False
    if transport.get_write_buffer_size() + len(frame) > MAX_BUFFERED:
        sink.is_slow = True
        sink.close(protocol.CloseCode.TOO_SLOW, protocol.close_reason(protocol.jitter_ms(500, 3000)))
        return False
    transport.write(frame)
    return True


class StockProtocol(WebSocketsSansIOProtocol):
    """uvicorn's own protocol, with a sink in scope["state"]["sink"], a price on bytes, and early bytes kept."""

    heard_at = 0.0
    credit = CREDIT

    def __init__(
        self,
        usage: AddressUsage,
        transport: asyncio.Transport,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.usage, self.accepted = usage, transport
        self.early = b""

    def start(self, head: RequestHead, rest: bytes) -> None:
        """Take over a connection whose head is a good handshake, with the bytes that came after it."""
        self.early = rest
        self.accepted.set_protocol(self)
        self.connection_made(self.accepted)
        self.client = head.client
        # uvicorn parses as well: it is given a head written anew, in which there is nothing left to decide.
        headers = [header for header in head.headers if header[0] not in DECIDED]
        headers += [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
        if head.subprotocols:
            headers.append((b"sec-websocket-protocol", ", ".join(head.subprotocols).encode()))
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)  # ASGI wants the names in lower case
        super().data_received(b"GET %s HTTP/1.1\r\n%s\r\n" % (head.target, lines))

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        self.credit -= len(data)
        if not self.handshake_complete:
            self.early += data  # uvicorn would leave them in the parser
        elif self.credit >= 0:
            super().data_received(data)
        if self.credit < 0:
            StockSink(self).flooded()

    def handle_ping(self) -> None:
        self.credit -= FRAME_COST
        super().handle_ping()

    def handle_cont(self, event: Frame) -> None:
        self.credit -= FRAME_COST
        super().handle_cont(event)

    async def send(self, message: Any) -> None:
        await super().send(message)
        early, self.early = self.early, b""
        if early:
            self.data_received(early)

    async def run_asgi(self) -> None:
        cast("dict[str, Any]", self.scope)["state"]["sink"] = StockSink(self)
        await super().run_asgi()

    def connection_lost(self, exc: Exception | None) -> None:
        self.usage.release()
        super().connection_lost(exc)


class StockSink:
    """Sink over stock websockets-sansio; uvicorn is pinned to one minor version for it."""

    __slots__ = ("_protocol", "_written", "is_slow")

    def __init__(self, protocol: StockProtocol) -> None:
        self._protocol = protocol
        self.is_slow = False
        self._written = 0

    @property
    def heard_at(self) -> float:
        return self._protocol.heard_at

    @property
    def credit(self) -> int:
        return self._protocol.credit

    @credit.setter
    def credit(self, credit: int) -> None:
        self._protocol.credit = credit

    def write(self, frame: bytes) -> bool:
        if self._protocol.close_sent or not put(self._protocol.transport, self, frame):
            return False
        self._written += len(frame)
        return True

    def ping(self, frame: bytes) -> None:
        self.write(frames.PING + frame)

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

    async def follow(self, follower: Follower, socket: Socket) -> None:
        try:
            while True:
                message = dict(await self._protocol.receive())
                if message["type"] == "websocket.disconnect":
                    return
                follower.heard(socket, message)
                self.credit -= FRAME_COST
                if self.credit < 0:
                    self.flooded()
        finally:
            follower.gone(socket)

    def flooded(self) -> None:
        """The client has sent more than it may."""
        self.close(protocol.CloseCode.TOO_MANY, protocol.close_reason(protocol.jitter_ms(1000, 5000)))
        if self.credit < -CREDIT:
            self.abort()


def listening_socket(address: str, *, reuse_port: bool = False) -> socket.socket:
    """A bound, listening socket whose clients spend little of the kernel's memory. Raises OSError."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=2048, reuse_port=reuse_port)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # accepted sockets inherit both
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000)
    return listening
