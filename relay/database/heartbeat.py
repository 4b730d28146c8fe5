"""What a relay does for the database besides reading: says that it lives, lends a hand, keeps receipts, takes leave."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from relay.admin.health import Metrics
    from relay.database.listener import Listener
    from relay.database.session import Link
    from relay.delivery.hub import Hub
    from relay.delivery.receipts import Receipts

log = logging.getLogger("relay.duties")

BEAT_SECONDS = 10.0
RESCUE_SECONDS = 1.0  # between passes made for a stopped scheduler
RECEIPT_SECONDS = 1.0
RECEIPTS_AT_ONCE = 2000
LEAVE_SECONDS = 1.0


class Duties:
    """Runs over the calling connection of a link; what fails here for good ends the link."""

    def __init__(self, hub: Hub, metrics: Metrics, receipts: Receipts) -> None:
        self._hub = hub
        self._metrics = metrics
        self._receipts = receipts
        self._started = datetime.now(UTC)
        self._news = asyncio.Event()
        self.canary: float | None = None

    def news(self) -> None:
        """State or mode has changed: say so now, not at the next beat."""
        self._news.set()

    async def keep_beating(self, link: Link, listener: Listener) -> None:
        """Say that this relay lives, and do what is wanted of it."""
        while True:
            self._news.clear()
            wants_rescue = await self._beat(link, listener.state, listener.mode)
            if wants_rescue and not listener.is_draining:
                await self._rescue(link)
            with suppress(TimeoutError):
                async with asyncio.timeout(RESCUE_SECONDS if wants_rescue else BEAT_SECONDS):
                    await self._news.wait()

    async def _beat(self, link: Link, state: str, mode: str | None) -> bool:
        canary = None if self.canary is None else timedelta(seconds=self.canary)
        wanted = await link.beat(self._hub.node, state, mode, self._hub.count, canary, self._started)
        self._receipts.wanted = wanted.receipts
        self._metrics.queue.set(wanted.queue_usage)
        if wanted.heartbeat_age is not None:
            self._metrics.heartbeat.set(wanted.heartbeat_age.total_seconds())
        return wanted.rescue

    async def _rescue(self, link: Link) -> None:
        try:
            counts = await link.rescue()
        except (asyncpg.PostgresError, TimeoutError) as error:  # somebody else announces, and takes long
            log.warning("no rescue", extra={"reason": f"{type(error).__name__}: {error}"})
        else:
            self._metrics.rescues.inc()
            log.warning("announced for a stopped scheduler", extra={"counts": counts})

    async def keep_receipts(self, link: Link) -> None:
        """Write receipts once a second."""
        while True:
            await asyncio.sleep(RECEIPT_SECONDS)
            await self._write_receipts(link)

    async def _write_receipts(self, link: Link) -> None:
        rows = self._receipts.take()
        for first in range(0, len(rows), RECEIPTS_AT_ONCE):
            try:
                await link.receipts(self._hub.node, rows[first : first + RECEIPTS_AT_ONCE])
            except asyncpg.PostgresError as error:
                log.warning("receipts not kept", extra={"sqlstate": error.sqlstate, "reason": str(error)})

    async def leave(self, link: Link) -> None:
        """The process ends: the last receipts, and a goodbye that takes our row along."""
        with suppress(Exception):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._write_receipts(link)
                await self._beat(link, "stopped", None)
