"""Graceful shutdown for clients: ask each to move to another relay, wait, then close those that are left."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from relay.protocol import CloseCode, jitter_ms, message

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.delivery.hub import Hub
    from relay.state import RelayState

CLOSED_PER_TURN = 100  # clients closed in one turn of the loop

log = logging.getLogger("relay.drain")


async def drain(hub: Hub, state: RelayState, seconds: float, is_forced: Callable[[], bool]) -> None:
    """Drain for so many seconds at most, less when all clients have moved or is_forced() becomes true.

    The clients are asked over the first half of the time, so that they reconnect spread over it.
    """
    state.is_draining = True
    now = asyncio.get_running_loop().time
    connections = hub.connections()
    log.info("draining", extra={"sockets": len(connections), "seconds": seconds})
    started = now()
    for number, connection in enumerate(connections):
        connection.transport.write(message("drain", retryAfterMs=jitter_ms(0, int(seconds * 250))))
        while now() < started + seconds / 2 * number / len(connections) and not is_forced():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    # Polled: a signal handler may not set an asyncio.Event.
    while hub.count and now() < started + seconds and not is_forced():  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    left = hub.connections()
    for number, connection in enumerate(left):
        hub.close(connection, CloseCode.DRAINED, jitter_ms(0, 2000))
        if number % CLOSED_PER_TURN == 0:
            await asyncio.sleep(0)
    moved = len(connections) - len(left)
    log.info("drained", extra={"left": moved, "closed": len(left), "seconds": now() - started})
