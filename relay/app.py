"""The composition root: makes every part once, runs the two servers and the background tasks."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from relay.admin.guard import Guard
from relay.admin.health import Health
from relay.admin.ops import Ops
from relay.auth import Verifier
from relay.database.listener import Listener
from relay.delivery.drain import drain
from relay.delivery.hub import Hub
from relay.delivery.receipts import Receipts
from relay.metrics import Metrics
from relay.protocol import MAX_MESSAGE
from relay.public.events import EventRoutes
from relay.public.limits import UserLimiter
from relay.public.origin import RequestPolicy
from relay.public.websocket import WebSocketRoutes
from relay.service_manager import inherited_socket, notify
from relay.state import RelayState
from relay.websocket.handshake import HandshakeProtocol
from relay.websocket.keepalive import Keepalive
from relay.websocket.kinds import select_kind
from relay.websocket.limits import RESERVE, ConnectionLimiter, allow_descriptors
from relay.websocket.server import ACCEPTED_PER_TURN, Server, listening_socket, log_descriptor_exhaustion, set_options

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from relay.settings import Settings

log = logging.getLogger("relay.app")


class Relay:
    """All parts of one relay, wired."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bind: tuple[str, int] | None = None
        self.admin_bind: tuple[str, int] | None = None
        self.metrics = Metrics()
        self.state = RelayState()
        self.receipts = Receipts(self.metrics)
        self.hub = Hub(settings.node, self.metrics, self.receipts)
        self.listener = Listener(settings, self.hub, self.metrics, self.receipts, self.state)
        self.keepalive = Keepalive(settings, self.hub, self.metrics, self.listener.check_stale)
        self.limiter, self.user_limiter = ConnectionLimiter(settings), UserLimiter()
        health = Health(self.hub, self.state, self.metrics, Ops(self.hub, self.state, self.listener.status))
        policy = RequestPolicy(settings, self.state)
        self.verifier = Verifier(settings, self.state)
        parts = (settings, policy, self.verifier, self.user_limiter, self.hub, self.metrics)
        websockets = WebSocketRoutes(*parts)
        routes = [*websockets.all(), *EventRoutes(*parts, join=websockets.join).all(), *health.public()]
        self._public = Starlette(routes=routes)
        self._admin = Starlette(routes=health.admin(), middleware=[Middleware(Guard, bind=settings.admin_bind)])
        self.public: Server  # made by serve(), when the kind of WebSocket has passed its self-test
        self.admin = Server(configure(self._admin, http="h11", ws="none"))

    async def serve(self) -> None:
        """Run until it is stopped. Raises OSError if an address is in use, and errors of parts that must not fail."""
        asyncio.get_running_loop().set_exception_handler(log_descriptor_exhaustion)
        self._make_room()
        http = functools.partial(HandshakeProtocol, self.limiter, self.metrics)
        kind = await select_kind(self.settings.sockets, http)
        self.public = Server(configure(self._public, http=http, ws=kind), self._drain)
        public = inherited_socket()
        if public is None:
            public = listening_socket(self.settings.bind, reuse_port=self.settings.reuse_port)
        else:
            set_options(public)
        admin = listening_socket(self.settings.admin_bind)
        self.bind, self.admin_bind = public.getsockname()[:2], admin.getsockname()[:2]
        log.info("serving", extra={"bind": self.bind, "admin": self.admin_bind, "node": self.settings.node})
        with public, admin:
            notify("READY=1")
            await self._run(public, admin)
        log.info("stopped")

    async def _drain(self, is_forced: Callable[[], bool]) -> None:
        notify("STOPPING=1")
        await drain(self.hub, self.state, self.settings.drain_seconds, is_forced)

    def _make_room(self) -> None:
        wanted = self.settings.max_sockets + RESERVE
        allowed = allow_descriptors(wanted)
        self.limiter.capacity = allowed - RESERVE // 2
        if allowed < wanted:
            log.warning(
                "fewer files may be open than RELAY_MAX_SOCKETS needs: raise the limit (ulimit -n, LimitNOFILE)",
                extra={"allowed": allowed, "needed": wanted, "capacity": self.limiter.capacity},
            )

    async def _run(self, public: socket.socket, admin: socket.socket) -> None:
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.listener.run()),
                tasks.create_task(self.keepalive.run()),
                tasks.create_task(self.hub.attach_forever(self.listener.attach)),
                tasks.create_task(self.verifier.keys.follow()),
                tasks.create_task(self.admin.serve([admin])),
            ]
            await self.public.serve([public])
            self.admin.should_exit = True
            for task in background[:-1]:
                task.cancel()


def configure(app: Starlette, *, http: Any, ws: Any) -> uvicorn.Config:
    """What both of our servers have in common."""
    return uvicorn.Config(
        app,
        ws=ws,
        ws_max_size=MAX_MESSAGE,
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
