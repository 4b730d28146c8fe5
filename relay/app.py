"""The composition root: makes every part once, runs two servers and their tasks, drains at the end."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from relay import protocol
from relay.admin.guard import Guard
from relay.admin.health import Health
from relay.auth import Verifier
from relay.database.listener import Listener
from relay.delivery.hub import Hub
from relay.delivery.receipts import Receipts
from relay.metrics import Metrics
from relay.public.websocket import Routes
from relay.websocket.handshake import HandshakeProtocol
from relay.websocket.keepalive import Keepalive
from relay.websocket.limits import RESERVE, ConnectionLimiter, UserLimiter, allow_descriptors
from relay.websocket.push import PushProtocol
from relay.websocket.selftest import run_selftest
from relay.websocket.server import ACCEPTED_PER_TURN, Server, listening_socket, log_descriptor_exhaustion
from relay.websocket.stock import StockProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from relay.settings import Settings

CLOSED_PER_TURN = 100

log = logging.getLogger("relay.app")


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
        self.keepalive = Keepalive(settings, self.hub, self.metrics, self.listener.check_stale)
        health = Health(self.hub, self.listener, self.metrics)
        self.limiter, self.user_limiter = ConnectionLimiter(settings), UserLimiter()
        routes = Routes(settings, Verifier(settings), self.hub, self.listener, self.metrics, self.user_limiter)
        self._handshake = functools.partial(HandshakeProtocol, self.limiter, self.metrics)
        public = Starlette(routes=[*routes.all(), *health.public()])
        self.public = Server(configure(public, http=self._handshake, ws=StockProtocol), self.drain)
        admin = Starlette(routes=health.admin(), middleware=[Middleware(Guard, bind=settings.admin_bind)])
        self.admin = Server(configure(admin, http="h11", ws="none"))

    async def serve(self) -> None:
        """Run until told to stop. Raises what a part raises that must not fail."""
        asyncio.get_running_loop().set_exception_handler(log_descriptor_exhaustion)
        self._make_room()
        await self._choose_sockets()
        public = listening_socket(self.settings.bind, reuse_port=self.settings.reuse_port)
        admin = listening_socket(self.settings.admin_bind)
        self.bind, self.admin_bind = public.getsockname()[:2], admin.getsockname()[:2]
        log.info("serving", extra={"bind": self.bind, "admin": self.admin_bind, "node": self.settings.node})
        with public, admin:
            await self._run(public, admin)
        log.info("stopped")

    def _make_room(self) -> None:
        wanted = self.settings.max_sockets + RESERVE
        allowed = allow_descriptors(wanted)
        self.limiter.capacity = allowed - RESERVE // 2
        if allowed < wanted:
            log.warning(
                "fewer files may be open than RELAY_MAX_SOCKETS needs: raise the limit (ulimit -n, LimitNOFILE)",
                extra={"allowed": allowed, "needed": wanted, "capacity": self.limiter.capacity},
            )

    async def _choose_sockets(self) -> None:
        if self.settings.sockets == "stock":
            return
        try:
            await run_selftest(self._handshake, PushProtocol)
        except Exception as error:
            log.error("the self-test of push failed: serving stock", extra={"error": repr(error)})
        else:
            self.public.config.ws = PushProtocol

    async def _run(self, public: socket.socket, admin: socket.socket) -> None:
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.listener.run()),
                tasks.create_task(self.keepalive.run()),
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
        now = asyncio.get_running_loop().time
        window = self.settings.drain_seconds
        connections = self.hub.connections()
        log.info("draining", extra={"sockets": len(connections), "seconds": window})
        started = now()
        for number, connection in enumerate(connections):  # asked in the first half, so that they come back spread
            connection.transport.write(protocol.message("drain", retryAfterMs=protocol.jitter_ms(0, int(window * 250))))
            while now() < started + window / 2 * number / len(connections) and not is_forced():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        # A signal handler may not set an asyncio.Event: look again and again.
        while self.hub.count and now() < started + window and not is_forced():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        left = self.hub.connections()
        for number, connection in enumerate(left):
            self.hub.close(connection, protocol.CloseCode.DRAINED, protocol.jitter_ms(0, 2000))
            if number % CLOSED_PER_TURN == 0:
                await asyncio.sleep(0)
        log.info(
            "drained", extra={"left": len(connections) - len(left), "closed": len(left), "seconds": now() - started}
        )


def configure(app: Starlette, *, http: Any, ws: Any) -> uvicorn.Config:
    """What both of our servers have in common."""
    return uvicorn.Config(
        app,
        ws=ws,
        ws_max_size=4096,
        ws_ping_interval=None,  # keepalive pings
        ws_per_message_deflate=False,
        http=http,
        loop="asyncio",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        backlog=ACCEPTED_PER_TURN,
    )
