"""A socket layer without database or tokens, and a client that writes raw bytes."""

from __future__ import annotations

import asyncio
import functools
import json
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from uvicorn.server import ServerState

from relay import frames, protocol
from relay.app import configure
from relay.metrics import Metrics
from relay.public.events import EventRoutes
from relay.public.origin import RequestPolicy
from relay.public.websocket import WebSocketRoutes
from relay.settings import Settings
from relay.state import RelayState
from relay.websocket.handshake import HandshakeProtocol
from relay.websocket.kinds import KINDS
from relay.websocket.limits import ConnectionLimiter
from relay.websocket.server import listening_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.websockets import WebSocket

    from relay.delivery.connection import Connection, Transport

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x11\x22\x33\x44"
TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


@dataclass
class Layer:
    """A running socket layer whose application echoes texts, and its connections."""

    kind: str
    port: int
    state: ServerState
    limiter: ConnectionLimiter
    metrics: Metrics
    transports: list[Transport] = field(default_factory=list)
    gone: int = 0

    def on_message(self, connection: Connection, message: dict[str, Any]) -> None:
        """Echo; a binary message is answered with its length."""
        text = message.get("text")
        transport: Transport = connection  # type: ignore[assignment] # here the transport stands for the client
        transport.write(frames.text_frame(f"binary {len(message['bytes'])}" if text is None else text))

    def _on_close(self, _connection: Connection) -> None:
        self.gone += 1


@asynccontextmanager
async def layer(kind: str, *, application: Any = None, **settings: Any) -> AsyncIterator[Layer]:
    """Serve with one kind of WebSocket. Fails if a connection or task is left after all clients have gone.

    `application`: an ASGI application instead of the one that echoes.
    """
    values = Settings(dsn="postgresql://x/x", jwt_secret="s" * 32, **settings)  # type: ignore[arg-type]
    limiter, metrics, state = ConnectionLimiter(values), Metrics(), ServerState()
    parts: tuple[Any, Any, Any, Any, Any, Any] = (
        values,
        RequestPolicy(values, RelayState()),
        None,
        None,
        None,
        metrics,
    )  # enough for an application that only refuses
    one = Layer(kind, 0, state, limiter, metrics)

    class EchoHandler:
        on_message = staticmethod(one.on_message)
        on_close = staticmethod(one._on_close)

    async def echo(websocket: WebSocket) -> None:
        offered = websocket.scope["subprotocols"]
        await websocket.accept(subprotocol=protocol.SUBPROTOCOL if protocol.SUBPROTOCOL in offered else None)
        transport: Transport = websocket.scope["state"]["transport"]
        one.transports.append(transport)
        await transport.set_handler(EchoHandler(), transport)  # type: ignore[arg-type]

    websockets = WebSocketRoutes(*parts)
    app = Starlette(routes=[*websockets.all(), *EventRoutes(*parts, join=websockets.join).all()])
    app.router.routes[0].endpoint = echo  # type: ignore[attr-defined]
    app.router.routes[0].app = as_asgi(echo)  # type: ignore[attr-defined]
    config = configure(application or app, http=functools.partial(HandshakeProtocol, limiter, metrics), ws=KINDS[kind])
    config.load()
    listening = listening_socket("127.0.0.1:0")
    one.port = listening.getsockname()[1]
    server = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
        sock=listening,
    )
    async with server:
        yield one
        async with asyncio.timeout(5):
            while state.connections or state.tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.002)


def as_asgi(application: Any) -> Any:
    """A WebSocket endpoint as an ASGI application."""
    from starlette.websockets import WebSocket

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await application(WebSocket(scope, receive, send))

    return call


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = MASK, form: int = 0
) -> bytes:
    """One frame as a client sends it; form: 0 the right length form, else 7, 16 or 64 bits."""
    size = len(payload)
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if mask is not None else 0
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    head = {
        7: struct.pack("!BB", first, bit | size & 127),
        16: struct.pack("!BBH", first, bit | 126, size & 65535),
    }.get(form, struct.pack("!BBQ", first, bit | 127, size))
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    """A client's close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def handshake(path: str = "/ws", without: str = "", **headers: str | list[str]) -> bytes:
    """A good handshake with some headers replaced (underscores become dashes), doubled (lists) or left out."""
    given: dict[str, Any] = {
        "host": "127.0.0.1", "upgrade": "websocket", "connection": "Upgrade",
        "sec-websocket-version": "13", "sec-websocket-key": KEY.decode(),
    }  # fmt: skip
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [
        f"{name}: {value}"
        for name, values in given.items()
        if name != without
        for value in (values if isinstance(values, list) else [values])
    ]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


@dataclass
class Raw:
    """A connection of raw bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer to what was sent."""
        async with asyncio.timeout(8):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        return int(head[0].split(" ")[1]), {name.lower(): value for name, value in pairs}

    async def json(self, headers: dict[str, str]) -> Any:
        """The answer's body."""
        return json.loads(await self.reader.readexactly(int(headers["content-length"])))

    async def send(self, data: bytes, piece: int | None = None) -> None:
        """Write; in pieces of so many bytes, each a segment of its own."""
        with suppress(ConnectionError):  # the server may have closed
            for start in range(0, len(data), piece or max(1, len(data))):
                self.writer.write(data[start : start + (piece or len(data))])
                await self.writer.drain()
                if piece is not None:
                    await asyncio.sleep(0)

    async def frames(self, count: int | None = None) -> list[tuple[int, bytes]]:
        """The server's next frames, or all until the end: each unmasked, whole, in the shortest form."""
        found: list[tuple[int, bytes]] = []
        async with asyncio.timeout(8):
            while count is None or len(found) < count:
                try:
                    first, size = await self.reader.readexactly(2)
                except (asyncio.IncompleteReadError, ConnectionResetError):
                    break
                assert first & 0x70 == 0
                assert first & 0x80
                assert size < 127, "masked, or longer than a test needs"
                if size == 126:
                    size = struct.unpack("!H", await self.reader.readexactly(2))[0]
                    assert size > 125
                found.append((first & 15, await self.reader.readexactly(size)))
        return found


@asynccontextmanager
async def raw(port: int, opening: bytes | None = None, source: str = "127.0.0.1") -> AsyncIterator[Raw]:
    """A connection; with `opening` (a handshake and what follows at once) an accepted one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    one = Raw(reader, writer)
    try:
        if opening is not None:
            await one.send(opening)
            status, _headers = await one.answer()
            assert status == 101, status
        yield one
    finally:
        writer.close()
