"""What the relay's bench compares: the same small server on each library, told by stdin what to send.

python -m tests.bench.relay_servers NAME prints its port; then each line "all TEXT", "each TEXT" or "one N TEXT" is sent to all, to
each (with its user's number in it), or to one client. TEXT is what PostgreSQL would have built: finished JSON.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

clients: dict[int, Any] = {}


def personal(text: str, user: int) -> str:
    """A text of the same length with the user's number in it."""
    return text.replace("000000", f"{user:06}", 1)


def user_of(path: str) -> int:
    """/ws?u=N"""
    return int(path.rpartition("=")[2])


async def commands(send: Any, send_all: Any = None) -> None:
    """Obey stdin. send(client, text) is called, and awaited if need be, for one frame."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    is_async = asyncio.iscoroutinefunction(send)
    while line := (await reader.readline()).decode():
        kind, _, text = line.rstrip("\n").partition(" ")
        if kind == "all" and send_all is not None:
            await send_all(text)
        elif kind == "one":
            number, _, text = text.partition(" ")
            result = send(clients[int(number)], text)
            if is_async:
                await result
        elif is_async:
            for user, client in list(clients.items()):
                await send(client, personal(text, user) if kind == "each" else text)
        else:
            for user, client in list(clients.items()):
                send(client, personal(text, user) if kind == "each" else text)


def tuned() -> None:
    """What python -m relay does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def ours(kind: str) -> None:
    """Starlette on uvicorn with our socket layer: push, or stock with frames written to its transport."""
    import functools

    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute

    from relay import frames
    from relay.app import configure
    from relay.metrics import Metrics
    from relay.settings import Settings
    from relay.websocket.handshake import HandshakeProtocol
    from relay.websocket.kinds import KINDS
    from relay.websocket.limits import ConnectionLimiter
    from relay.websocket.server import Server, listening_socket

    class ClosedHandler:
        def on_message(self, connection: Any, message: Any) -> None: ...

        def on_close(self, connection: Any) -> None:
            clients.pop(connection, None)

    handler = ClosedHandler()

    async def application(websocket: Any) -> None:
        await websocket.accept()
        user = user_of(str(websocket.url))
        clients[user] = websocket.scope["state"]["transport"]
        await clients[user].set_handler(handler, user)

    async def broadcast(text: str) -> None:
        frame = frames.text_frame(text)
        for transport in list(clients.values()):
            transport.write(frame)

    settings = Settings(dsn="postgresql://x/x", jwt_secret="s" * 32, max_handshakes=1e6, max_sockets=20_000)  # type: ignore[arg-type]
    app = Starlette(routes=[WebSocketRoute("/ws", application)])
    http = functools.partial(HandshakeProtocol, ConnectionLimiter(settings), Metrics())
    config = configure(app, http=http, ws=KINDS[kind])
    listening = listening_socket("127.0.0.1:0")
    tuned()
    serving = asyncio.create_task(Server(config).serve([listening]))
    print(listening.getsockname()[1], flush=True)
    await commands(lambda transport, text: transport.write(frames.text_frame(text)), broadcast)
    serving.cancel()


def stock_uvicorn(app: Any) -> Any:
    """A server as its manual has it, without compression and pings: the others do without as well."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            port=0,
            backlog=2048,
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_ping_interval=None,
            log_level="error",
        )
    )


async def starlette(_kind: str) -> None:
    """Starlette on uvicorn with send_text, the usual way."""
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocketDisconnect

    async def application(websocket: Any) -> None:
        await websocket.accept()
        user = user_of(str(websocket.url))
        clients[user] = websocket
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            clients.pop(user, None)

    async def send(websocket: Any, text: str) -> None:
        await websocket.send_text(text)

    app = Starlette(routes=[WebSocketRoute("/ws", application)])
    server = stock_uvicorn(app)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await commands(send)
    serving.cancel()


async def websockets(_kind: str) -> None:
    """The websockets library, its broadcast() for all."""
    from websockets.asyncio.server import broadcast, serve

    async def handler(connection: Any) -> None:
        user = user_of(connection.request.path)
        clients[user] = connection
        await connection.wait_closed()
        clients.pop(user, None)

    async def send(connection: Any, text: str) -> None:
        await connection.send(text)

    async def send_all(text: str) -> None:
        broadcast(clients.values(), text)

    async with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=1024) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await commands(send, send_all)


async def aiohttp(_kind: str) -> None:
    """aiohttp."""
    from aiohttp import web

    async def handler(request: Any) -> Any:
        response = web.WebSocketResponse(compress=False)
        await response.prepare(request)
        clients[int(request.query["u"])] = response
        async for _message in response:
            pass
        clients.pop(int(request.query["u"]), None)
        return response

    async def send(response: Any, text: str) -> None:
        await response.send_str(text)

    app = web.Application()
    app.router.add_get("/ws", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await commands(send)


async def picows(_kind: str) -> None:
    """picows, on asyncio's loop."""
    from picows import WSListener, WSMsgType, ws_create_server  # type: ignore[import-not-found]

    class Client(WSListener):  # type: ignore[misc]
        def __init__(self, user: int) -> None:
            super().__init__()
            self.user = user

        def on_ws_connected(self, transport: Any) -> None:
            clients[self.user] = transport

        def on_ws_disconnected(self, _transport: Any) -> None:
            clients.pop(self.user, None)

    def listener(request: Any) -> Any:
        return Client(user_of(request.path.decode()))

    server = await ws_create_server(listener, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await commands(lambda transport, text: transport.send(WSMsgType.TEXT, text.encode()))


async def socketio(_kind: str) -> None:
    """python-socketio as an ASGI application on uvicorn."""
    import socketio as library  # type: ignore[import-not-found]

    io = library.AsyncServer(async_mode="asgi", ping_interval=3600, logger=False, engineio_logger=False)

    @io.event  # type: ignore[untyped-decorator]
    async def connect(sid: str, environ: Any) -> None:
        clients[user_of(environ["QUERY_STRING"])] = sid

    async def send(sid: str, text: str) -> None:
        await io.emit("e", text, to=sid)

    async def send_all(text: str) -> None:
        await io.emit("e", text)

    app = library.ASGIApp(io)
    server = stock_uvicorn(app)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await commands(send, send_all)
    serving.cancel()


SERVERS = {
    "push": ours, "stock": ours, "starlette": starlette, "websockets": websockets, "aiohttp": aiohttp,
    "picows": picows, "python-socketio": socketio,
}  # fmt: skip

if __name__ == "__main__":
    asyncio.run(SERVERS[sys.argv[1]](sys.argv[1]))
