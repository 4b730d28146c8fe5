"""The composition root: makes every part once, runs two servers and their tasks, drains at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

from relay import frames
from relay.auth import Verifier
from relay.health import Health, Metrics
from relay.hub import Hub
from relay.listener import Listener
from relay.receipts import Receipts
from relay.routes import Routes
from relay.sockets import StockProtocol, listening_socket
from relay.sweeper import Sweeper

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from types import FrameType

    from starlette.routing import BaseRoute

    from relay.settings import Settings

log = logging.getLogger("relay.app")


class Server(uvicorn.Server):
    """uvicorn, with a hook before it closes all connections at once; only one of the two handles signals."""

    def __init__(self, config: uvicorn.Config, relay: Relay, *, has_signals: bool) -> None:
        super().__init__(config)
        self._relay = relay
        self._has_signals = has_signals

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals() if self._has_signals else contextlib.nullcontext():
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # the second signal ends it at once
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._has_signals:
            for server in self.servers:
                server.close()
            await self._relay.drain(lambda: self.force_exit)
        await super().shutdown(sockets)


class Relay:
    """All parts of one relay, wired."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bind: tuple[str, int] | None = None
        self.admin_bind: tuple[str, int] | None = None
        self.metrics = Metrics()
        self.receipts = Receipts(self.metrics)
        self.hub = Hub(settings.node, self.metrics, self.receipts)
        self.listener = Listener(settings, self.hub, self.metrics, self.receipts)
        self.sweeper = Sweeper(settings, self.hub, self.metrics, self.listener.check_stale)
        health = Health(self.hub, self.listener, self.metrics)
        routes = Routes(settings, Verifier(settings), self.hub, self.listener, self.metrics)
        self.public = self._server([*routes.all(), *health.public()], has_signals=True)
        self.admin = self._server([*health.admin()], has_signals=False)

    def _server(self, routes: list[BaseRoute], *, has_signals: bool) -> Server:
        config = uvicorn.Config(
            Starlette(routes=routes),
            ws=StockProtocol,
            ws_max_size=4096,
            ws_ping_interval=None,  # the sweeper pings
            ws_per_message_deflate=False,
            http="h11",
            loop="asyncio",
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        return Server(config, self, has_signals=has_signals)

    async def serve(self) -> None:
        """Run until told to stop. Raises what a part raises that must not fail."""
        public = listening_socket(self.settings.bind)
        admin = listening_socket(self.settings.admin_bind)
        self.bind, self.admin_bind = public.getsockname()[:2], admin.getsockname()[:2]
        log.info("serving", extra={"bind": self.bind, "admin": self.admin_bind, "node": self.settings.node})
        with public, admin:
            await self._run(public, admin)
        log.info("stopped")

    async def _run(self, public: socket.socket, admin: socket.socket) -> None:
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.listener.run()),
                tasks.create_task(self.sweeper.run()),
                tasks.create_task(self.hub.attach_forever(self.listener.attach)),
                tasks.create_task(self.admin.serve([admin])),
            ]
            await self.public.serve([public])
            self.admin.should_exit = True
            for task in background[:3]:
                task.cancel()

    async def drain(self, is_forced: Callable[[], bool]) -> None:
        """Ask every client to go elsewhere, wait for those that do, close the rest."""
        self.listener.is_draining = True
        window = self.settings.drain_seconds
        sockets = self.hub.sockets()
        log.info("draining", extra={"sockets": len(sockets), "seconds": window})
        for socket in sockets:
            socket.sink.write(frames.own("drain", retryAfterMs=frames.jittered(0, int(window * 500))))
        deadline = asyncio.get_running_loop().time() + window
        # A signal handler may not set an asyncio.Event: look again and again.
        while self.hub.count and asyncio.get_running_loop().time() < deadline and not is_forced():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        left = self.hub.sockets()
        for socket in left:
            self.hub.close(socket, frames.DRAINED, frames.jittered(0, 2000))
        log.info("drained", extra={"closed": len(left)})
        if left:
            await asyncio.sleep(0.2)
