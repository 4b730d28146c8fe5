"""GET /events: for clients without a WebSocket. Asked for text/event-stream it is the same stream of frames.

For clients that poll it is the answer that a hello gives, with the missed events in it.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relay.auth import Refused, bearer
from relay.frames import payload
from relay.keys import KeysUnavailable
from relay.records import parse_cursor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from relay.auth import Identity, Verifier
    from relay.delivery.connection import Transport
    from relay.delivery.hub import Hub
    from relay.metrics import Metrics
    from relay.public.limits import UserLimiter
    from relay.public.origin import RequestPolicy
    from relay.records import AttachResult, Cursor
    from relay.settings import Settings

    Join = Callable[[Transport, Identity, Cursor | None], Awaitable[None]]

ANSWER_SECONDS = 5.0
EVENT_STREAM = "text/event-stream"
PREFLIGHT = {"Access-Control-Allow-Headers": "Authorization, Last-Event-ID", "Access-Control-Max-Age": "7200"}


class EventRoutes:
    """What /events answers."""

    def __init__(
        self,
        settings: Settings,
        policy: RequestPolicy,
        verifier: Verifier,
        user_limiter: UserLimiter,
        hub: Hub,
        metrics: Metrics,
        join: Join,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._verifier = verifier
        self._user_limiter = user_limiter
        self._hub = hub
        self._metrics = metrics
        self._join = join

    def all(self) -> list[BaseRoute]:
        """Routes for the composition root."""
        return [Route("/events", self.events, methods=["GET", "OPTIONS"])]

    async def events(self, request: Request) -> Response:
        """A stream of frames, or the user's sessions and missed events; refusals as in docs/protocol.md."""
        problem = self._policy.check_request(request)
        if problem is not None:
            self._metrics.refused.labels(problem[1]).inc()
            return JSONResponse({"error": problem[1]}, status_code=problem[0])
        headers = cross_origin(request)
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers={**headers, **PREFLIGHT})
        try:
            identity = await self._verifier.authenticate(bearer(request))
        except KeysUnavailable as unavailable:
            self._metrics.refused.labels(unavailable.reason).inc()
            after = {"Retry-After": str(ceil(unavailable.retry_ms / 1000))}
            return JSONResponse(
                {"error": unavailable.reason, "retryAfterMs": unavailable.retry_ms}, 503, {**headers, **after}
            )
        except Refused as refused:
            self._metrics.refused.labels(refused.reason).inc()
            headers["WWW-Authenticate"] = "Bearer"
            return JSONResponse({"error": "token", **refused.details}, status_code=401, headers=headers)
        if wants_stream(request):
            cursor = request.headers.get("last-event-id") or request.query_params.get("after")
            pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            await self._join(request.scope["state"]["stream"](pairs), identity, parse_cursor(cursor))
            return Response()  # the stream has taken over the connection: this is not sent
        answer = await self._poll(request, identity)
        answer.headers.update(headers)
        return answer

    async def _poll(self, request: Request, identity: Identity) -> Response:
        if wait := self._user_limiter.retry_ms(identity.user, asyncio.get_running_loop().time()):
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
            events = b",".join(payload(event.frame) for event in result.events)
            result.body = b'%b,"events":[%b]}' % (result.state[:-1].encode(), events)
        return Response(result.body, media_type="application/json")

    async def _ask(self, request: Request, identity: Identity, cursor: Cursor | None) -> AttachResult | None:
        """Ask relay_attach; None without a result in ANSWER_SECONDS or when the client has disconnected."""
        disconnecting = asyncio.create_task(wait_for_disconnect(request))
        try:
            with self._hub.question(identity, cursor) as answered:
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait((answered, disconnecting), timeout=ANSWER_SECONDS, return_when=first)
                return answered.result() if answered.done() else None
        finally:
            disconnecting.cancel()


async def wait_for_disconnect(request: Request) -> None:
    """Wait until the client of a plain request has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def wants_stream(request: Request) -> bool:
    """True for a GET that accepts text/event-stream by name."""
    ranges = (part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(","))
    return request.method == "GET" and EVENT_STREAM in ranges


def cross_origin(request: Request) -> dict[str, str]:
    """What lets a page of an allowed origin, as this one is, read the answer (Fetch Standard, 3.3)."""
    origin = request.headers.get("origin")
    return {} if origin is None else {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
