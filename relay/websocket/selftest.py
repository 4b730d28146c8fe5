"""A start-up check of a kind of WebSocket: one connection to itself, with handshake, frame, ping, message and close.

uvicorn's protocol classes are no documented extension point: what an update broke is found here, not by clients.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from uvicorn.server import ServerState
from websockets.asyncio.client import connect

from relay import frames, protocol
from relay.websocket.server import listening_socket

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from relay.delivery.connection import Connection, Transport

SECONDS = 3.0
TEXT = '{"type":"selftest"}'


class Echo:
    """Handler of the one connection: sends its message back, then closes."""

    def __init__(self, transport: Transport) -> None:
        self._sink = transport
        self.is_gone = False

    def on_message(self, _socket: Connection, message: dict[str, Any]) -> None:
        self._sink.write(frames.text_frame(message["text"]))
        self._sink.close(protocol.CloseCode.DRAINED, protocol.close_reason(1))

    def on_close(self, _socket: Connection) -> None:
        self.is_gone = True


async def run_selftest(http: Any, ws: Any) -> None:
    """Check two protocol classes for uvicorn together. Raises whatever goes wrong."""
    echoes: list[Echo] = []

    async def application(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol=protocol.SUBPROTOCOL)
        transport: Transport = websocket.scope["state"]["transport"]
        echoes.append(Echo(transport))
        transport.write(frames.text_frame(TEXT))
        await transport.set_handler(echoes[0], None)  # type: ignore[arg-type] # Echo does not use it

    routes = [WebSocketRoute("/ws", application)]
    config = uvicorn.Config(
        Starlette(routes=routes), http=http, ws=ws, lifespan="off", ws_per_message_deflate=False, log_config=None
    )
    config.load()
    state = ServerState()
    listening = listening_socket("127.0.0.1:0")
    server = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
        sock=listening,
    )
    async with server, asyncio.timeout(SECONDS):
        await talk(f"ws://127.0.0.1:{listening.getsockname()[1]}/ws")
        while state.connections or not echoes[0].is_gone:  # noqa: ASYNC110 - nothing here can set an event
            await asyncio.sleep(0.005)


async def talk(url: str) -> None:
    """The client's part."""
    options: Any = {"subprotocols": [protocol.SUBPROTOCOL], "compression": None, "close_timeout": 0.5}
    async with connect(url, **options) as client:
        assert client.subprotocol == protocol.SUBPROTOCOL, "subprotocol"
        assert await client.recv() == TEXT, "first frame"
        await (await client.ping())
        await client.send(TEXT)
        assert await client.recv() == TEXT, "echo"
        await client.wait_closed()
        assert client.close_code == protocol.CloseCode.DRAINED, "close code"
