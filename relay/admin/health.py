"""Probes and metrics: /livez (the event loop runs), /readyz (the relay is live), /metrics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relay.admin.database_metrics import DatabaseMetrics
from relay.state import STATES

if TYPE_CHECKING:
    from starlette.requests import Request

    from relay.admin.ops import Ops
    from relay.delivery.hub import Hub
    from relay.metrics import Metrics
    from relay.state import RelayState

ANSWER_SECONDS = 3.0  # that a scrape waits for the database
SCRAPE_SECONDS = 10.0  # for which an answer of the database is kept for /metrics, however many scrape


class Health:
    """The routes of the admin address, and /livez of the public one."""

    def __init__(self, hub: Hub, state: RelayState, metrics: Metrics, ops: Ops) -> None:
        self._hub = hub
        self._state = state
        self._metrics = metrics
        self._ops = ops
        self._database = DatabaseMetrics()
        metrics.registry.register(self._database)

    def public(self) -> list[Route]:
        """Routes of the public side."""
        return [Route("/livez", self.livez)]

    def admin(self) -> list[Route]:
        """Routes for the admin address only."""
        return [
            Route("/livez", self.livez),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
            Route("/ops", self._ops.answer),
        ]

    async def livez(self, _request: Request) -> Response:
        """The loop turns: that this answers is the answer."""
        return JSONResponse({"alive": True})

    async def readyz(self, _request: Request) -> Response:
        """200 while live and able to verify tokens; the reason in any case."""
        state = self._state
        ready = state.name == "live" and state.keys_problem is None
        body = {"ready": ready, "state": state.name, "mode": state.mode, "reason": state.reason}
        return JSONResponse(body, status_code=200 if ready else 503)

    async def metrics(self, _request: Request) -> Response:
        """Prometheus text."""
        metrics = self._metrics
        for name in STATES:
            metrics.state.labels(name).set(name == self._state.name)
        metrics.polling.set(self._state.mode == "polling")
        metrics.sockets.set(self._hub.count)
        metrics.buffered.set(sum(connection.transport.buffered() for connection in self._hub.connections()))
        self._database.status = await self._database_status()
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _database_status(self) -> dict[str, Any] | None:
        """relay_status(); None if it does not come in time: a scrape shows the relay's own figures in any case."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, _ = await self._ops.status(SCRAPE_SECONDS)
        except TimeoutError:
            return None
        return status
