"""The push kind: a protocol for uvicorn's Config(ws=…) with one small object per client.

Starlette routes, authenticates and accepts; then its coroutine returns and only this object is left. Incoming bytes are
parsed by websockets' sans-I/O parser, made when bytes arrive and dropped between messages: a client that only listens
has none. Writes never block; only complete frames are accepted.

OPENING --accept--> OPEN --close()--> CLOSING --its close frame--> OVER --it closes, or CLOSE_SECONDS--> gone
   |                  +--its close frame, or a fault of its-----> OVER
   +--refused---------------------------------------------------> OVER
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from websockets.frames import CloseCode

from relay import frames, protocol
from relay.websocket.flow_control import CLOSE_SECONDS, CREDIT, FRAME_COST, write_or_close
from relay.websocket.parser import MessageParser, is_pong
from relay.websocket.request import refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uvicorn import Config
    from uvicorn.server import ServerState

    from relay.delivery.connection import Connection, Handler
    from relay.records import Cursor
    from relay.websocket.limits import AddressUsage
    from relay.websocket.request import RequestHead

log = logging.getLogger("relay.push")

SLICE = 4096  # bytes parsed between two checks of the credit
MAX_EARLY = protocol.MAX_MESSAGE + 1024  # bytes kept that came before the handshake's answer
LINGER = 64 * 1024  # bytes still read and dropped after the last frame: closing on them would reset it away


class State(enum.IntEnum):
    """States of a connection, as drawn above."""

    OPENING, OPEN, CLOSING, OVER = range(4)


class PushProtocol(asyncio.Protocol):
    """One WebSocket, from its complete HTTP head to its end; also the hub's Transport."""

    __slots__ = (
        "_connection", "_cycle", "_ending", "_handler", "_parser", "_server_state", "_state", "_transport", "_usage",
        "_written", "credit", "is_slow", "received_at",
    )  # fmt: skip

    def __init__(
        self,
        usage: AddressUsage,
        transport: asyncio.Transport,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        self._usage, self._transport = usage, transport
        self.credit = CREDIT
        self.received_at = 0.0
        self.is_slow = False
        self._state = State.OPENING
        self._written = 0
        self._server_state = server_state
        self._cycle: ASGICycle | None = ASGICycle(self, config, app_state)
        self._parser: MessageParser | None = None
        self._handler: Handler | None = None
        self._connection: Connection  # set while _handler is
        self._ending: asyncio.TimerHandle | None = None

    def start(self, head: RequestHead, rest: bytes) -> None:
        """Take over a connection whose head is a good handshake, with the bytes that came after it."""
        self._server_state.connections.add(self)  # type: ignore[arg-type] # typed for uvicorn's own protocols
        self._transport.set_protocol(self)
        if self._cycle is not None:
            task = asyncio.get_running_loop().create_task(self._cycle.run(head))
            self._server_state.tasks.add(task)
            task.add_done_callback(self._server_state.tasks.discard)
        if rest:
            self.data_received(rest)

    # ---- Transport, for the hub

    def write(self, frame: bytes, cursor: Cursor | None = None) -> bool:
        """Queue a complete frame; False if the client has disconnected or is now closed for being too slow."""
        if self._state != State.OPEN or not write_or_close(self._transport, self, frame):
            return False
        self._written += len(frame)
        return True

    def ping(self, frame: bytes) -> None:
        """Send a protocol ping and a frame in one write."""
        self.write(frames.PING + frame)

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the connection is aborted if it doesn't end in CLOSE_SECONDS."""
        if self._state == State.OPEN:
            self._state = State.CLOSING
            self._begin_end(frames.close_frame(code, reason))
            self._release(code, reason)

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
        """Pass messages to the handler from here on; returns at once."""
        if self._state != State.OPEN or self._cycle is None:
            handler.on_close(connection)
            return
        self._handler, self._connection = handler, connection
        while not self._cycle.queue.empty():
            handler.on_message(connection, self._cycle.queue.get_nowait())

    # ---- asyncio.Protocol, for the network

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client, in any pieces."""
        self.received_at = time.monotonic()
        self.credit -= len(data)
        if self._state == State.OVER:
            if self.credit < 0:
                self.abort()
        elif self._state == State.OPENING and self._cycle is not None:
            self._cycle.early += data
            if len(self._cycle.early) > MAX_EARLY:
                self.abort()
        elif self._parser is not None or not is_pong(data):
            for start in range(0, len(data), SLICE):
                if self._is_flooded() or not self._parse(data[start : start + SLICE]):
                    return

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after the connection closed, from either side."""
        self._state = State.OVER
        self._server_state.connections.discard(self)
        self._usage.release()
        if self._ending is not None:
            self._ending.cancel()
        self._ending = None
        self._drop_parser()
        self._release(CloseCode.ABNORMAL_CLOSURE, "")

    def shutdown(self) -> None:
        """Send a close frame and close, without waiting for the client: uvicorn is shutting down."""
        if self._state == State.OPENING:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, b'{"error":"draining"}')
        self.close(protocol.CloseCode.RESTART, protocol.close_reason(protocol.jitter_ms(0, 2000)))
        self._transport.close()

    # ---- for ASGICycle

    def accept(self, response: bytes) -> None:
        """Answer the handshake, then take the bytes that came before the answer."""
        if self._state == State.OPENING and self._cycle is not None:
            self._state = State.OPEN
            self._transport.write(response)
            early, self._cycle.early = bytes(self._cycle.early), bytearray()
            if early:
                self.data_received(early)

    def refuse(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer the handshake with an HTTP response."""
        if self._state == State.OPENING:
            self._finish(refusal(status, body, headers))

    def returned(self) -> None:
        """The application's coroutine has returned: without a handler the connection is closed."""
        self._cycle = None
        self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, b'{"error":"internal"}')
        if self._handler is None:
            self.close(CloseCode.INTERNAL_ERROR, "")

    # ---- inside

    def _parse(self, data: bytes) -> bool:
        """Parse some bytes and act on them; False if the client has closed or made a mistake."""
        parser = self._parser = self._parser or MessageParser()
        messages = parser.feed(data)
        self.credit -= FRAME_COST * parser.frames
        reply = parser.reply()
        if reply and not parser.is_over:
            self.write(reply)
        for message in messages:
            if self._state == State.OPEN:
                self._pass_on(message)
        if parser.is_over:
            self._finish(reply)
        if parser.is_over or parser.is_idle:
            self._drop_parser()
        return not parser.is_over

    def _drop_parser(self) -> None:
        parser, self._parser = self._parser, None
        if parser is not None:
            parser.drop()

    def _pass_on(self, message: dict[str, Any]) -> None:
        if self._handler is not None:
            self._handler.on_message(self._connection, message)
        elif self._cycle is not None:
            self._cycle.queue.put_nowait(message)

    def _is_flooded(self) -> bool:
        if self.credit >= 0:
            return False
        if self._state == State.OPEN:
            self._finish(
                frames.close_frame(protocol.CloseCode.TOO_MANY, protocol.close_reason(protocol.jitter_ms(1000, 5000)))
            )
        else:
            self.abort()
        return True

    def _begin_end(self, last: bytes) -> None:
        self._transport.write(last)
        self._ending = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)

    def _finish(self, last: bytes) -> None:
        """Write the last bytes and the end of the stream; drop what the client still sends until it closes."""
        if self._state in (State.OPENING, State.OPEN):
            self._begin_end(last)
        self._state = State.OVER
        self.credit = LINGER
        with contextlib.suppress(OSError):  # the client may be gone already
            self._transport.write_eof()
        self._release(CloseCode.NO_STATUS_RCVD, "")

    def _release(self, code: int, reason: str) -> None:
        if self._cycle is not None:
            self._cycle.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.on_close(self._connection)
            del self._connection  # breaks the reference cycle, so that both are freed without the garbage collector


class ASGICycle:
    """The ASGI side of a connection, for as long as the application's coroutine runs."""

    def __init__(self, push: PushProtocol, config: Config, app_state: dict[str, Any]) -> None:
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.early = bytearray()
        self._push = push
        self._config = config
        self._app_state = app_state
        self._accept = b""
        self._is_connected = False
        self._denial: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._body = b""

    async def run(self, head: RequestHead) -> None:
        """Call the application, and tell the connection when it has returned or raised."""
        self._accept = head.acceptance()
        scope = head.scope(self._app_state)
        scope["state"]["transport"] = self._push
        try:
            await self._config.loaded_app(scope, self.receive, self.send)
        except Exception:
            log.exception("the application failed")
        finally:
            self._push.returned()

    async def receive(self) -> dict[str, Any]:
        """ASGI receive."""
        if not self._is_connected:
            self._is_connected = True
            return {"type": "websocket.connect"}
        return await self.queue.get()

    async def send(self, message: dict[str, Any]) -> None:
        """ASGI send, without websocket.send: frames are written to the Transport."""
        headers = list(message.get("headers", []))
        match message["type"]:
            case "websocket.accept":
                if message.get("subprotocol"):
                    headers.append((b"Sec-WebSocket-Protocol", message["subprotocol"].encode()))
                lines = b"".join(b"%s: %s\r\n" % header for header in headers)
                self._push.accept(self._accept + lines + b"\r\n")
            case "websocket.close":
                self._push.refuse(HTTPStatus.FORBIDDEN, b'{"error":"refused"}')
                self._push.close(message.get("code", CloseCode.NORMAL_CLOSURE), message.get("reason") or "")
            case "websocket.http.response.start":
                self._denial = (message["status"], headers)
            case "websocket.http.response.body" if self._denial is not None:
                self._body += message.get("body", b"")
                if not message.get("more_body"):
                    self._push.refuse(self._denial[0], self._body, self._denial[1])
            case other:
                raise RuntimeError(f"{other}: frames are written to the Transport in the scope's state")
