"""What every connection to the public address is at first: admits it, reads one request, and passes it on.

A good handshake goes to the WebSocket protocol, any other request to PlainHTTPProtocol, each with its admitted place;
whatever can't be served is answered at once with a reason. Bytes that came with the head are passed on too.
"""

from __future__ import annotations

import asyncio
import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from relay.protocol import close_reason
from relay.websocket.limits import LimitExceeded
from relay.websocket.plain import PlainHTTPProtocol
from relay.websocket.request import HandshakeError, RequestParser, refusal

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from relay.metrics import Metrics
    from relay.websocket.limits import AddressUsage, ConnectionLimiter
    from relay.websocket.request import RequestHead

HEAD_SECONDS = 5.0  # from connection to a whole head
LIVENESS = b"/livez"  # not refused for the rate of all: a probe that fails under load would end the process


class HandshakeProtocol(asyncio.Protocol):
    """uvicorn's Config(http=…) for the public address."""

    def __init__(
        self,
        limiter: ConnectionLimiter,
        metrics: Metrics,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._limiter, self._metrics = limiter, metrics
        self._config, self._server_state, self._app_state = config, server_state, app_state
        self._usage: AddressUsage | None = None  # a trusted proxy's connection has one when its head is known
        self._parser: RequestParser | None = None
        self._peer: tuple[str, int]
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection of a peer that is a client itself."""
        self._transport = cast("asyncio.Transport", transport)
        self._peer = transport.get_extra_info("peername")[:2]
        self._server_state.connections.add(self)  # type: ignore[arg-type] # uvicorn's own kinds only, it thinks
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._is_late)
        try:
            if not self._limiter.is_trusted(self._peer[0]):
                self._usage = self._limiter.acquire(self._peer[0], time.monotonic())
            self._limiter.check_capacity(len(self._server_state.connections))
        except LimitExceeded as exceeded:
            self._refuse_for_limit(exceeded)

    def data_received(self, data: bytes) -> None:
        """Bytes of the head, in whatever pieces."""
        self._parser = self._parser or RequestParser()
        try:
            parsed = self._parser.feed(data)
            if parsed is not None:
                self._pass_on(*parsed)
        except HandshakeError as error:
            self._refuse(error)
        except LimitExceeded as exceeded:
            self._refuse_for_limit(exceeded)

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after the connection closed, from either side."""
        self._leave()
        if self._usage is not None:
            self._usage.release()

    def shutdown(self) -> None:
        """uvicorn ends."""
        self._transport.close()

    def _pass_on(self, head: RequestHead, rest: bytes) -> None:
        now = time.monotonic()
        address = self._limiter.client(self._peer[0], head.all(b"x-forwarded-for"))
        if self._usage is None:
            self._usage = self._limiter.acquire(address, now)
        head.client = self._peer if address in (None, self._peer[0]) else (str(address), 0)
        head.check()
        if head.is_websocket:
            head.check_handshake()
        if head.path != LIVENESS:
            self._limiter.check_rate(now)
        protocol: Any = self._config.ws_protocol_class if head.is_websocket else PlainHTTPProtocol
        usage, self._usage = self._usage, None
        self._leave()
        protocol(usage, self._transport, self._config, self._server_state, self._app_state).start(head, rest)

    def _is_late(self) -> None:
        if self._parser is not None and self._parser.has_begun:
            self._refuse(HandshakeError(HTTPStatus.REQUEST_TIMEOUT, "late"))
        else:
            self._transport.abort()

    def _refuse_for_limit(self, exceeded: LimitExceeded) -> None:
        if self._usage is not None:
            self._usage.release()
            self._usage = None
        self._refuse(HandshakeError(HTTPStatus.SERVICE_UNAVAILABLE, exceeded.reason), exceeded.retry_ms)

    def _refuse(self, error: HandshakeError, retry_ms: int | None = None) -> None:
        self._metrics.refused.labels(error.reason).inc()
        headers = list(error.headers)
        body: dict[str, Any] = {"error": error.reason}
        if retry_ms is not None:
            headers.append((b"Retry-After", str(-(-retry_ms // 1000)).encode()))
            body |= json.loads(close_reason(retry_ms))
        answer = refusal(error.status, json.dumps(body).encode(), headers)
        usage, self._usage = self._usage or self._limiter.acquire_refused(time.monotonic()), None
        if usage is None:  # so many are refused that not all can be waited for
            self._transport.write(answer)
            self._transport.close()
            return
        self._leave()
        PlainHTTPProtocol(usage, self._transport, self._config, self._server_state, self._app_state).finish(answer)

    def _leave(self) -> None:
        self._timer.cancel()
        self._server_state.connections.discard(self)
