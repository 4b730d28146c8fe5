"""/ws: authentication of a new WebSocket, and the messages of an authenticated client.

Nothing here writes a session or logs what a client sent.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from relay.auth import Refused, UnknownKey, bearer
from relay.keys import KeysUnavailable
from relay.protocol import SUBPROTOCOL, BadFrame, CloseCode, close_reason, jitter_ms, parse_client
from relay.public.limits import UserLimiter, make_way
from relay.records import parse_cursor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.websockets import WebSocket

    from relay.auth import Identity, Verifier
    from relay.delivery.connection import Connection, Transport
    from relay.delivery.hub import Hub
    from relay.metrics import Metrics
    from relay.public.origin import RequestPolicy
    from relay.records import Cursor
    from relay.settings import Settings

AUTH_SECONDS = 5.0  # for the first frame, without an Authorization header


class WebSocketRoutes:
    """What /ws answers; also the Handler of all clients."""

    def __init__(
        self,
        settings: Settings,
        policy: RequestPolicy,
        verifier: Verifier,
        user_limiter: UserLimiter,
        hub: Hub,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._verifier = verifier
        self._user_limiter = user_limiter
        self._hub = hub
        self._metrics = metrics
        self._renewals: set[asyncio.Task[None]] = set()

    def all(self) -> list[BaseRoute]:
        """Routes for the composition root."""
        return [
            WebSocketRoute("/ws", self.websocket),
            WebSocketRoute("/{path:path}", self.not_found),
            Route("/ws", self.not_a_websocket),
        ]

    async def websocket(self, websocket: WebSocket) -> None:
        """Authenticate one client and let it join; its transport and the hub go on without this coroutine."""
        problem = self._policy.check_request(websocket)
        if problem is not None:
            self._metrics.refused.labels(problem[1]).inc()
            await websocket.send_denial_response(JSONResponse({"error": problem[1]}, status_code=problem[0]))
            return
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        transport: Transport = websocket.scope["state"]["transport"]
        after: object = websocket.query_params.get("after") if websocket.scope["query_string"] else None
        try:
            token: object = bearer(websocket)
            if token is None:
                async with asyncio.timeout(AUTH_SECONDS):
                    first = parse_client(await receive(websocket))
                if first["type"] != "auth":
                    raise BadFrame("the first frame must be auth")
                token, after = first.get("token"), first.get("after") or after
            identity = await self._verifier.authenticate(token)
        except TimeoutError:
            self._refuse(transport, "no_auth", CloseCode.NO_AUTH, jitter_ms(500, 3000))
        except BadFrame as bad:
            self._refuse(transport, "bad_frame", bad.code, 0)
        except Refused as refused:
            self._refuse(transport, refused.reason, refused.code, 0, **refused.details)
        except KeysUnavailable as unavailable:
            reason, retry_ms = unavailable.reason, unavailable.retry_ms
            self._refuse(transport, reason, CloseCode.TRY_LATER, retry_ms, reason=reason)
        except Disconnected:
            return
        else:
            await self.join(transport, identity, parse_cursor(after))

    async def not_found(self, websocket: WebSocket) -> None:
        """A handshake for any other path."""
        await websocket.send_denial_response(JSONResponse({"error": "not_found"}, status_code=404))

    async def not_a_websocket(self, _request: Request) -> Response:
        """A request for /ws that is no handshake."""
        return JSONResponse({"error": "not_a_websocket"}, status_code=426, headers={"Upgrade": "websocket"})

    async def join(self, transport: Transport, identity: Identity, cursor: Cursor | None) -> None:
        """Let an authenticated client join within the limits; the transport says it to the client if it can't."""
        now = asyncio.get_running_loop().time()
        refusal = make_way(self._hub, self._settings, self._user_limiter, identity.user, now)
        if refusal is not None:
            self._refuse(transport, refusal[0], CloseCode.TOO_MANY, refusal[1])
        else:
            await transport.set_handler(self, self._hub.join(identity, transport, cursor, now))

    def _refuse(self, transport: Transport, label: str, code: CloseCode, retry_ms: int, **details: str) -> None:
        """Close before joining. label: of the metric `refused`."""
        self._metrics.refused.labels(label).inc()
        self._metrics.closed.labels(str(code)).inc()
        transport.close(code, close_reason(retry_ms, **details))

    # ---- Handler

    def on_message(self, connection: Connection, message: dict[str, Any]) -> None:
        """Take one message of an authenticated client; a bad one closes its connection."""
        with self._closing(connection):
            self._dispatch(connection, parse_client(message))

    @contextmanager
    def _closing(self, connection: Connection) -> Iterator[None]:
        """Close a client for what is wrong with its message."""
        try:
            yield
        except BadFrame as bad:
            self._metrics.refused.labels("bad_frame").inc()
            self._hub.close(connection, bad.code, 0)
        except Refused as refused:
            self._metrics.refused.labels(refused.reason).inc()
            self._hub.close(connection, refused.code, 0, **refused.details)
        except KeysUnavailable as unavailable:
            reason, retry_ms = unavailable.reason, unavailable.retry_ms
            self._metrics.refused.labels(reason).inc()
            self._hub.close(connection, CloseCode.TRY_LATER, retry_ms, reason=reason)

    def on_close(self, connection: Connection) -> None:
        """Remove a disconnected client."""
        if connection.transport.is_slow:
            self._metrics.slow.inc()
            self._metrics.closed.labels(str(CloseCode.TOO_SLOW)).inc()
        self._hub.leave(connection)

    def _dispatch(self, connection: Connection, message: dict[str, Any]) -> None:
        if message["type"] == "sync":
            self._sync(connection)
        elif message["type"] == "ack":
            self._hub.receipts.acked(connection, parse_cursor(message.get("cursor")))
        elif message["type"] == "auth":
            token = message.get("token")
            try:
                self._renew(connection, self._verifier.identify(token))
            except UnknownKey:
                task = asyncio.get_running_loop().create_task(self._renew_later(connection, token))
                self._renewals.add(task)
                task.add_done_callback(self._renewals.discard)

    async def _renew_later(self, connection: Connection, token: object) -> None:
        """Take a token of a key that is to be fetched first."""
        with self._closing(connection):
            identity = await self._verifier.authenticate(token)
            if connection in self._hub.users.get(connection.identity.user, ()):
                self._renew(connection, identity)

    def _renew(self, connection: Connection, identity: Identity) -> None:
        if identity.user != connection.identity.user:
            raise BadFrame("another user")
        connection.identity = identity
        connection.was_warned = False
        self._sync(connection)  # asks the database whether this token is blocked; the snapshot has its expiry

    def _sync(self, connection: Connection) -> None:
        if wait := self._user_limiter.retry_ms(connection.identity.user, asyncio.get_running_loop().time()):
            self._metrics.refused.labels("user_rate").inc()
            self._hub.close(connection, CloseCode.TOO_MANY, wait)
        else:
            self._hub.sync(connection)


class Disconnected(Exception):
    """The client has disconnected before it was authenticated."""


async def receive(websocket: WebSocket) -> dict[str, Any]:
    """The client's next message. Raises Disconnected."""
    message = dict(await websocket.receive())
    if message["type"] == "websocket.disconnect":
        raise Disconnected
    return message
