"""Checks of every client once a second: pings, silence, unread bytes, tokens that run out, joins that hang."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

from relay.protocol import CloseCode, format_instant, jitter_ms, message
from relay.websocket.flow_control import CREDIT, EARNED

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.delivery.connection import Connection
    from relay.delivery.hub import Hub
    from relay.metrics import Metrics
    from relay.settings import Settings

HOLD_SECONDS = 5.0
TOKEN_WARNING = 60.0
COLLECT_AFTER = 500  # clients
CHUNK = 64  # clients checked in one turn of the loop, so that events don't wait for a thousand pings


class Keepalive:
    """Checks every client once a second; never waits for one."""

    def __init__(self, settings: Settings, hub: Hub, metrics: Metrics, every_second: Callable[[], None]) -> None:
        self._settings = settings
        self._hub = hub
        self._metrics = metrics
        self._every_second = every_second
        self._collected_at = 0  # hub.left at the last collection

    async def run(self) -> None:
        """Check all clients once a second for as long as the process runs."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            self._every_second()
            self._collect()
            connections = self._hub.connections()
            for first in range(0, len(connections), CHUNK):
                self.check(connections[first : first + CHUNK], loop.time(), time.time())
                await asyncio.sleep(0)

    def _collect(self) -> None:
        """Collect garbage once as many clients have left as are connected: in proportion to what is freed.

        The reference cycles of a stock connection outlive the young collections, and the thresholds of __main__ make
        full ones rare: five waves of 2,000 clients left 140 MB unfreed (issue 12, R12).
        """
        if self._hub.left - self._collected_at > max(COLLECT_AFTER, self._hub.count):
            self._collected_at = self._hub.left
            gc.collect()

    def check(self, connections: list[Connection], now: float, wall: float) -> None:
        """Check some clients. now: loop time, s; wall: Unix time, s."""
        ping = message("ping", serverTime=format_instant(wall))
        for connection in connections:
            connection.transport.credit = min(CREDIT, connection.transport.credit + EARNED)
            if not connection.has_hello:  # the first frame is hello: neither ping nor auth_expiring comes before it
                if now - connection.joined_at > HOLD_SECONDS:
                    self._hub.close(connection, CloseCode.TRY_LATER, jitter_ms(500, 3000))
            elif self._is_stuck(connection, now):
                self._metrics.slow.inc()
                self._hub.close(connection, CloseCode.TOO_SLOW, jitter_ms(500, 3000))
            elif now - connection.pinged_at >= self._settings.ping_seconds:
                self._ping(connection, ping, now)
            else:
                self._check_token(connection, wall)

    def _ping(self, connection: Connection, ping: bytes, now: float) -> None:
        """Ping a client; cut it if nothing came since the last ping. Before the first, pinged_at is joined_at."""
        is_silent = connection.transport.received_at < connection.pinged_at
        if is_silent and connection.pinged_at > connection.joined_at:
            self._metrics.silent.inc()
            connection.transport.abort()
            self._hub.leave(connection)
        else:
            connection.pinged_at = now
            connection.transport.ping(ping)

    def _is_stuck(self, connection: Connection, now: float) -> bool:
        """True if bytes have been waiting for stuck_seconds and the kernel took none of them.

        The bytes alone would also cut a slow reader, the time alone a client that is sent nothing.
        """
        drained = connection.transport.drained()
        if drained != connection.drained or not connection.transport.buffered():
            connection.drained, connection.drained_at = drained, now
        return now - connection.drained_at > self._settings.stuck_seconds

    def _check_token(self, connection: Connection, wall: float) -> None:
        left = connection.identity.expires_at - wall
        if left < -self._settings.token_grace_seconds:
            self._hub.close(connection, CloseCode.TOKEN, 0)
        elif left < TOKEN_WARNING and not connection.was_warned:
            connection.was_warned = True
            connection.transport.write(message("auth_expiring", inSeconds=max(0, int(left))))
