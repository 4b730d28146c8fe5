"""Once a second over all sockets: pings, silent and stuck clients, tokens that run out, joins that hang."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

from relay import protocol
from relay.websocket.stock import CREDIT, EARNED

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.admin.health import Metrics
    from relay.delivery.hub import Hub
    from relay.records import Socket
    from relay.settings import Settings

HOLD_SECONDS = 5.0
TOKEN_WARNING = 60.0
COLLECT_AFTER = 500  # clients
CHUNK = 64  # sockets looked at in one turn of the loop: events don't wait for a thousand pings


class Sweeper:
    """Looks at each socket; never waits for one."""

    def __init__(self, settings: Settings, hub: Hub, metrics: Metrics, every_second: Callable[[], None]) -> None:
        self._settings = settings
        self._hub = hub
        self._metrics = metrics
        self._every_second = every_second
        self._collected_at = 0  # hub.left at the last collection

    async def run(self) -> None:
        """Sweep once a second for as long as the process runs."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            self._every_second()
            self._collect()
            sockets = self._hub.sockets()
            for first in range(0, len(sockets), CHUNK):
                self.sweep(sockets[first : first + CHUNK], loop.time(), time.time())
                await asyncio.sleep(0)

    def _collect(self) -> None:
        """Collect garbage once as many clients have left as are here: the cost stays in proportion to what is freed.

        The circles of a stock connection outlive the young collections, and by the thresholds of __main__ the next full
        one is far away: five waves of 2,000 clients left 140 MB behind (issue 12, R12).
        """
        if self._hub.left - self._collected_at > max(COLLECT_AFTER, self._hub.count):
            self._collected_at = self._hub.left
            gc.collect()

    def sweep(self, sockets: list[Socket], now: float, wall: float) -> None:
        """Some sockets' round. now: loop time; wall: seconds since 1970."""
        ping = protocol.message("ping", serverTime=protocol.format_instant(wall))
        for socket in sockets:
            socket.sink.credit = min(CREDIT, socket.sink.credit + EARNED)
            if not socket.has_hello:  # the first frame is hello: neither ping nor auth_expiring comes before it
                if now - socket.joined_at > HOLD_SECONDS:
                    self._hub.close(socket, protocol.CloseCode.TRY_LATER, protocol.jitter_ms(500, 3000))
            elif self._is_stuck(socket, now):
                self._metrics.slow.inc()
                self._hub.close(socket, protocol.CloseCode.TOO_SLOW, protocol.jitter_ms(500, 3000))
            elif now - socket.pinged_at >= self._settings.ping_seconds:
                # before the first ping, pinged_at is the instant of joining: silence since then says nothing
                if socket.sink.heard_at < socket.pinged_at and socket.pinged_at > socket.joined_at:
                    self._metrics.silent.inc()
                    socket.sink.abort()
                    self._hub.leave(socket)
                else:
                    socket.pinged_at = now
                    socket.sink.ping(ping)
            else:
                self._check_token(socket, wall)

    def _is_stuck(self, socket: Socket, now: float) -> bool:
        """Bytes alone would cut a slow reader, time alone a quiet one: stuck is bytes waiting, none taken."""
        drained = socket.sink.drained()
        if drained != socket.drained or not socket.sink.buffered():
            socket.drained, socket.drained_at = drained, now
        return now - socket.drained_at > self._settings.stuck_seconds

    def _check_token(self, socket: Socket, wall: float) -> None:
        left = socket.identity.expires_at - wall
        if left < -self._settings.token_grace_seconds:
            self._hub.close(socket, protocol.CloseCode.TOKEN, 0)
        elif left < TOKEN_WARNING and not socket.was_warned:
            socket.was_warned = True
            socket.sink.write(protocol.message("auth_expiring", inSeconds=max(0, int(left))))
