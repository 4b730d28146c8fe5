"""Probes and metrics: /livez (the event loop runs), /readyz (the relay is live), /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relay.admin.ops import Ops

if TYPE_CHECKING:
    from starlette.requests import Request

    from relay.database.listener import Listener
    from relay.delivery.hub import Hub
    from relay.metrics import Metrics

STATES = ("connecting", "catching up", "live", "stale", "draining")


class Health:
    """The routes of the admin address, and /livez of the public one."""

    def __init__(self, hub: Hub, listener: Listener, metrics: Metrics) -> None:
        self._hub = hub
        self._listener = listener
        self._metrics = metrics
        self._ops = Ops(hub, listener)

    def public(self) -> list[Route]:
        """Routes for everybody."""
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
        """200 while live; the reason in any case."""
        listener = self._listener
        ready = listener.state == "live"
        said = {"ready": ready, "state": listener.state, "mode": listener.mode, "reason": listener.reason}
        return JSONResponse(said, status_code=200 if ready else 503)

    async def metrics(self, _request: Request) -> Response:
        """Prometheus text."""
        metrics = self._metrics
        for state in STATES:
            metrics.state.labels(state).set(state == self._listener.state)
        metrics.polling.set(self._listener.mode == "polling")
        metrics.sockets.set(self._hub.count)
        metrics.buffered.set(sum(connection.transport.buffered() for connection in self._hub.connections()))
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
