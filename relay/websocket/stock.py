"""The stock kind: uvicorn's own WebSocket protocol, with the hub's frames written straight to its TCP transport.

Writes never block: see flow_control. uvicorn is pinned to one minor version for its internals that are used here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from relay import frames, protocol
from relay.websocket.flow_control import CLOSE_SECONDS, CREDIT, FRAME_COST, write_or_close

if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from uvicorn import Config
    from uvicorn.server import ServerState
    from websockets.frames import Frame

    from relay.delivery.connection import Connection, Handler
    from relay.records import Cursor
    from relay.websocket.limits import AddressUsage
    from relay.websocket.request import RequestHead

DECIDED = (b"upgrade", b"connection", b"sec-websocket-protocol", b"sec-websocket-extensions")


class StockProtocol(WebSocketsSansIOProtocol):
    """uvicorn's own protocol with three additions: a Transport in scope["state"]["transport"], a credit for received
    bytes, and keeping the bytes that come before the handshake is answered.
    """

    received_at = 0.0
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
        # websockets_sansio_impl.py of uvicorn 0.54 parses a head itself: give it one made of the checked values only.
        headers = [header for header in head.headers if header[0] not in DECIDED]
        headers += [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
        if head.subprotocols:
            headers.append((b"sec-websocket-protocol", ", ".join(head.subprotocols).encode()))
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)  # ASGI wants the names in lower case
        super().data_received(b"GET %s HTTP/1.1\r\n%s\r\n" % (head.target, lines))

    def data_received(self, data: bytes) -> None:
        self.received_at = self.loop.time()
        self.credit -= len(data)
        if not self.handshake_complete:
            self.early += data  # uvicorn would feed them to the parser of the handshake
        elif self.credit >= 0:
            super().data_received(data)
        if self.credit < 0:
            StockTransport(self).flooded()

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
        cast("dict[str, Any]", self.scope)["state"]["transport"] = StockTransport(self)
        await super().run_asgi()

    def connection_lost(self, exc: Exception | None) -> None:
        self.usage.release()
        super().connection_lost(exc)


class StockTransport:
    """Transport over uvicorn's websockets-sansio protocol."""

    __slots__ = ("_protocol", "_written", "is_slow")

    def __init__(self, protocol: StockProtocol) -> None:
        self._protocol = protocol
        self.is_slow = False
        self._written = 0

    @property
    def received_at(self) -> float:
        return self._protocol.received_at

    @property
    def credit(self) -> int:
        return self._protocol.credit

    @credit.setter
    def credit(self, credit: int) -> None:
        self._protocol.credit = credit

    def write(self, frame: bytes, cursor: Cursor | None = None) -> bool:
        if self._protocol.close_sent or not write_or_close(self._protocol.transport, self, frame):
            return False
        self._written += len(frame)
        return True

    def ping(self, frame: bytes) -> None:
        self.write(frames.PING + frame)

    def close(self, code: int, reason: str) -> None:
        stock = self._protocol
        if stock.close_sent or stock.transport.is_closing():
            return
        # As send("websocket.close") in websockets_sansio_impl.py of uvicorn 0.54, without its wait for the client.
        stock.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        try:
            stock.conn.send_close(code, reason)
        except InvalidState:
            stock.transport.abort()
            return
        stock.transport.write(b"".join(stock.conn.data_to_send()))
        stock.close_sent = True
        if stock.read_paused:
            stock.read_paused = False
            stock.transport.resume_reading()
        stock.close_timer = stock.loop.call_later(CLOSE_SECONDS, stock.transport.abort)

    def abort(self) -> None:
        self._protocol.transport.abort()

    def buffered(self) -> int:
        return self._protocol.transport.get_write_buffer_size()

    def drained(self) -> int:
        return self._written - self.buffered()

    async def set_handler(self, handler: Handler, connection: Connection) -> None:
        try:
            while True:
                message = dict(await self._protocol.receive())
                if message["type"] == "websocket.disconnect":
                    return
                handler.on_message(connection, message)
                self.credit -= FRAME_COST
                if self.credit < 0:
                    self.flooded()
        finally:
            handler.on_close(connection)

    def flooded(self) -> None:
        """Close a client that has sent more than its credit; abort one that keeps sending."""
        self.close(protocol.CloseCode.TOO_MANY, protocol.close_reason(protocol.jitter_ms(1000, 5000)))
        if self.credit < -CREDIT:
            self.abort()
