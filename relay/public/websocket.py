"""The public routes: the WebSocket's handshake and incoming frames, and /events for clients without one.

Nothing here makes a token, writes a session, or logs what a client sent.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from relay import frames, protocol
from relay.auth import Refused
from relay.public.origin import RequestPolicy, bearer
from relay.records import parse_cursor

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.websockets import WebSocket

    from relay.auth import Identity, Verifier
    from relay.database.listener import Listener
    from relay.delivery.connection import Connection, Transport
    from relay.delivery.hub import Hub
    from relay.metrics import Metrics
    from relay.records import AttachResult, Cursor
    from relay.settings import Settings
    from relay.websocket.limits import UserLimiter

AUTH_SECONDS = 5.0
ANSWER_SECONDS = 5.0


class Routes:
    """What the public address answers."""

    def __init__(
        self,
        settings: Settings,
        verifier: Verifier,
        hub: Hub,
        listener: Listener,
        metrics: Metrics,
        user_limiter: UserLimiter,
    ) -> None:
        self._settings = settings
        self._policy = RequestPolicy(settings, listener)
        self._user_limiter = user_limiter
        self._verifier = verifier
        self._hub = hub
        self._metrics = metrics

    def all(self) -> list[BaseRoute]:
        """Routes for the composition root."""
        return [
            WebSocketRoute("/ws", self.websocket),
            WebSocketRoute("/{path:path}", self.nowhere),
            Route("/ws", self.not_a_websocket),
            Route("/events", self.events),
        ]

    # ---- WebSocket

    async def websocket(self, websocket: WebSocket) -> None:
        """One client, from handshake to joining; from there its transport and the hub go on."""
        problem = self._policy.check_request(websocket)
        if problem is not None:
            self._metrics.refused.labels(problem[1]).inc()
            await websocket.send_denial_response(JSONResponse({"error": problem[1]}, status_code=problem[0]))
            return
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(subprotocol=protocol.SUBPROTOCOL if protocol.SUBPROTOCOL in offered else None)
        transport: Transport = websocket.scope["state"]["transport"]
        after: object = (websocket.scope["query_string"] and websocket.query_params.get("after")) or None
        try:
            token = bearer(websocket)
            if token is None:
                async with asyncio.timeout(AUTH_SECONDS):
                    first = protocol.parse(await receive(websocket))
                if first["type"] != "auth":
                    raise protocol.BadFrame("the first frame must be auth")
                token, after = first.get("token"), first.get("after") or after
            identity = self._verify(token)
        except TimeoutError:
            self._refuse(transport, "no_auth", protocol.CloseCode.NO_AUTH, protocol.jitter_ms(500, 3000))
        except protocol.BadFrame:
            self._refuse(transport, "bad_frame", protocol.CloseCode.BAD_FRAME, 0)
        except Refused as refused:
            self._refuse(transport, refused.reason, protocol.CloseCode.TOKEN, 0)
        except Gone:
            return
        else:
            await self._serve(transport, identity, parse_cursor(after))

    async def nowhere(self, websocket: WebSocket) -> None:
        """A handshake for any other path."""
        await websocket.send_denial_response(JSONResponse({"error": "not_found"}, status_code=404))

    async def not_a_websocket(self, _request: Request) -> Response:
        """A request for /ws that is no handshake."""
        return JSONResponse({"error": "not_a_websocket"}, status_code=426, headers={"Upgrade": "websocket"})

    async def _serve(self, transport: Transport, identity: Identity, cursor: Cursor | None) -> None:
        if (
            self._hub.count >= self._settings.max_sockets
            or len(self._hub.users.get(identity.user, ())) >= self._settings.max_sockets_per_user
        ):
            self._refuse(transport, "too_many", protocol.CloseCode.TOO_MANY, protocol.jitter_ms(5_000, 30_000))
            return
        if wait := self._wait(identity):
            self._refuse(transport, "user_rate", protocol.CloseCode.TOO_MANY, wait)
            return
        connection = self._hub.join(identity, transport, cursor, asyncio.get_running_loop().time())
        await transport.set_handler(self, connection)

    def on_message(self, connection: Connection, message: dict[str, Any]) -> None:
        """A message of a client that has joined."""
        try:
            self._heard(connection, protocol.parse(message))
        except protocol.BadFrame:
            self._metrics.refused.labels("bad_frame").inc()
            self._hub.close(connection, protocol.CloseCode.BAD_FRAME, 0)
        except Refused as refused:
            self._metrics.refused.labels(refused.reason).inc()
            self._hub.close(connection, protocol.CloseCode.TOKEN, 0)

    def on_close(self, connection: Connection) -> None:
        """A client that had joined is here no more."""
        if connection.transport.is_slow:
            self._metrics.slow.inc()
            self._metrics.closed.labels(str(protocol.CloseCode.TOO_SLOW)).inc()
        self._hub.leave(connection)

    def _heard(self, connection: Connection, message: dict[str, Any]) -> None:
        if message["type"] == "sync":
            self._sync(connection)
        elif message["type"] == "ack":
            self._hub.receipts.acked(connection, parse_cursor(message.get("cursor")))
        elif message["type"] == "auth":
            identity = self._verify(message.get("token"))
            if identity.user != connection.identity.user:
                raise protocol.BadFrame("another user")
            connection.identity = identity
            connection.was_warned = False
            self._sync(connection)  # asks again whether this token is let in, and shows its new end

    def _sync(self, connection: Connection) -> None:
        if wait := self._wait(connection.identity):
            self._metrics.refused.labels("user_rate").inc()
            self._hub.close(connection, protocol.CloseCode.TOO_MANY, wait)
        else:
            self._hub.sync(connection)

    def _wait(self, identity: Identity) -> int:
        """0 if the user may ask the database once more; else when to come back, in milliseconds."""
        seconds = self._user_limiter.wait(identity.user, asyncio.get_running_loop().time())
        return protocol.jitter_ms(ceil(seconds * 1000), ceil(seconds * 1000) + 3000) if seconds else 0

    def _refuse(self, transport: Transport, reason: str, code: int, retry_ms: int) -> None:
        self._metrics.refused.labels(reason).inc()
        self._metrics.closed.labels(str(code)).inc()
        transport.close(code, protocol.close_reason(retry_ms))

    def _verify(self, token: object) -> Identity:
        if not isinstance(token, str):
            raise Refused("no_token")
        identity = self._verifier.verify(token)
        # The issuer's clock may be ahead. Whoever was here before a disconnect_user() must not pass for one after it.
        if identity.issued_at.timestamp() > (now := time.time()):
            return replace(identity, issued_at=datetime.fromtimestamp(now, UTC))
        return identity

    # ---- /events

    async def events(self, request: Request) -> Response:
        """The same answer as a WebSocket's hello with the missed events in it: for clients that poll."""
        problem = self._policy.check_request(request)
        if problem is not None:
            self._metrics.refused.labels(problem[1]).inc()
            return JSONResponse({"error": problem[1]}, status_code=problem[0])
        try:
            identity = self._verify(bearer(request))
        except Refused as refused:
            self._metrics.refused.labels(refused.reason).inc()
            return JSONResponse({"error": "token"}, status_code=401, headers={"WWW-Authenticate": "Bearer"})
        if wait := self._wait(identity):
            self._metrics.refused.labels("user_rate").inc()
            after = {"Retry-After": str(ceil(wait / 1000))}
            return JSONResponse({"error": "user_rate", "retryAfterMs": wait}, status_code=429, headers=after)
        result = None
        if self._hub.waiting() < self._settings.max_sockets:
            result = await self._ask(request, identity, parse_cursor(request.query_params.get("after")))
        if result is None:
            return JSONResponse({"error": "try later"}, status_code=503, headers={"Retry-After": "2"})
        if result.state is None:
            retry = {"retryAfterMs": result.blocked_ms or 0}
            return JSONResponse({"error": "blocked", **retry}, status_code=401 if result.blocked_ms is None else 403)
        if result.body is None:
            events = ",".join(frames.payload(event.frame) for event in result.events)
            result.body = f'{result.state[:-1]},"events":[{events}]}}'.encode()
        return Response(result.body, media_type="application/json")

    async def _ask(self, request: Request, identity: Identity, cursor: Cursor | None) -> AttachResult | None:
        """None: no answer in time, or the client has left; then its question is not asked any more."""
        leaving = asyncio.create_task(left(request))
        try:
            with self._hub.question(identity, cursor) as answered:
                await asyncio.wait((answered, leaving), timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                return answered.result() if answered.done() else None
        finally:
            leaving.cancel()


class Gone(Exception):
    """The client has left."""


async def receive(websocket: WebSocket) -> dict[str, Any]:
    """The next message of the client. Raises Gone."""
    message = dict(await websocket.receive())
    if message["type"] == "websocket.disconnect":
        raise Gone
    return message


async def left(request: Request) -> None:
    """Wait until the client of a plain request has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
