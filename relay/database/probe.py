"""Checks that LISTEN works: a NOTIFY sent over the other connection every two seconds has to come back."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.database.faults import Strangeness
    from relay.database.heartbeat import Heartbeat
    from relay.database.session import DatabaseSession
    from relay.metrics import Metrics

log = logging.getLogger("relay.probe")

PROBE_SECONDS = 2.0


class ListenProbe:
    """mode: None until it is known, then notify or polling. Behind a pooler it proves nothing, and we poll."""

    def __init__(self, metrics: Metrics, heartbeat: Heartbeat, strangeness: Strangeness) -> None:
        self._metrics = metrics
        self._strangeness = strangeness
        self._heartbeat = heartbeat
        self._nonce: str | None = None
        self._sent_at = 0.0
        self.mode: str | None = None
        self.pooled = False

    def forget(self) -> None:
        """The connection is gone."""
        self._nonce = None
        self.mode = None

    async def keep_sending(self, session: DatabaseSession) -> None:
        """For as long as the session lasts: a call that hangs ends it."""
        while True:
            self._nonce = nonce = secrets.token_hex(8)
            self._sent_at = time.monotonic()  # before: it may be back before the call is
            await self._strangeness.noted("relay_probe", session.probe(nonce))
            await asyncio.sleep(PROBE_SECONDS)
            if self._nonce == nonce and self.mode != "polling":
                log.warning("deaf: polling every second", extra={"seconds": PROBE_SECONDS})
                self._change("polling")

    def on_notify(self, payload: str) -> None:
        """Something came on the probe's channel: anybody may send there, only our nonce counts."""
        if payload != self._nonce or self.pooled:
            return
        self._nonce = None
        self._heartbeat.canary = time.monotonic() - self._sent_at
        self._metrics.canary.set(self._heartbeat.canary)
        if self.mode != "notify":
            log.info("hears NOTIFY")
            self._change("notify")

    def _change(self, mode: str) -> None:
        self.mode = mode
        self._heartbeat.changed()
