"""Check that LISTEN works: every PROBE_SECONDS a NOTIFY with a nonce is sent over the other connection."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.database.faults import CallFaults
    from relay.database.session import DatabaseSession
    from relay.metrics import Metrics
    from relay.state import RelayState

log = logging.getLogger("relay.probe")

PROBE_SECONDS = 2.0


class ListenProbe:
    """Sets state.mode to "notify" while the nonces come back, else to "polling"."""

    def __init__(self, metrics: Metrics, state: RelayState, faults: CallFaults) -> None:
        self._metrics = metrics
        self._state = state
        self._faults = faults
        self._nonce: str | None = None
        self._sent_at = 0.0

    def forget(self) -> None:
        """The session has ended: the mode is not known any more."""
        self._nonce = None
        self._state.mode = None
        self._state.is_pooled = False

    async def keep_sending(self, session: DatabaseSession) -> None:
        """Send probes for as long as the session lasts; a call that hangs ends the session. None without LISTEN."""
        self._state.is_pooled = session.is_pooled
        if session.is_pooled:
            self._change("polling")
            return
        while True:
            self._nonce = nonce = secrets.token_hex(8)
            self._sent_at = time.monotonic()  # before the call: the NOTIFY may arrive before the call returns
            await self._faults.recorded("relay_probe", session.probe(nonce))
            await asyncio.sleep(PROBE_SECONDS)
            if self._nonce == nonce and self._state.mode != "polling":
                log.warning(
                    "the probe's NOTIFY does not come back: polling every second", extra={"seconds": PROBE_SECONDS}
                )
                self._change("polling")

    def on_notify(self, payload: str) -> None:
        """Take a payload of the probe's channel. Any role may send there; only our nonce counts."""
        if payload != self._nonce:
            return
        self._nonce = None
        self._state.probe_seconds = time.monotonic() - self._sent_at
        self._metrics.canary.set(self._state.probe_seconds)
        if self._state.mode != "notify":
            log.info("the probe's NOTIFY comes back")
            self._change("notify")

    def _change(self, mode: str) -> None:
        self._state.mode = mode
        self._state.changed.set()
