"""GET /events: for clients that poll, the answer that a WebSocket's hello gives, with the missed events in it."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relay.auth import Refused, bearer
from relay.frames import payload
from relay.keys import KeysUnavailable
from relay.records import parse_cursor

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from relay.auth import Identity, Verifier
    from relay.delivery.hub import Hub
    from relay.metrics import Metrics
    from relay.public.limits import UserLimiter
    from relay.public.origin import RequestPolicy
    from relay.records import AttachResult, Cursor
    from relay.settings import Settings

ANSWER_SECONDS = 5.0


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
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._verifier = verifier
        self._user_limiter = user_limiter
        self._hub = hub
        self._metrics = metrics

    def all(self) -> list[BaseRoute]:
        """Routes for the composition root."""
        return [Route("/events", self.events)]

    async def events(self, request: Request) -> Response:
        """The user's sessions and missed events: 200, or 400, 401, 403, 429 or 503 as in docs/protocol.md."""
        problem = self._policy.check_request(request)
        if problem is not None:
            self._metrics.refused.labels(problem[1]).inc()
            return JSONResponse({"error": problem[1]}, status_code=problem[0])
        try:
            identity = await self._verifier.authenticate(bearer(request))
        except KeysUnavailable as unavailable:
            self._metrics.refused.labels(unavailable.reason).inc()
            after = {"Retry-After": str(ceil(unavailable.retry_ms / 1000))}
            return JSONResponse({"error": unavailable.reason, "retryAfterMs": unavailable.retry_ms}, 503, after)
        except Refused as refused:
            self._metrics.refused.labels(refused.reason).inc()
            body = {"error": "token", **refused.details}
            return JSONResponse(body, status_code=401, headers={"WWW-Authenticate": "Bearer"})
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
            events = ",".join(payload(event.frame) for event in result.events)
            result.body = f'{result.state[:-1]},"events":[{events}]}}'.encode()
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
