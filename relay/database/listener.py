"""Reads the event log for the hub, over one LISTEN connection at a time, and keeps the relay's state.

A NOTIFY only wakes the reader; its payload is not read.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

import asyncpg

from relay.database.connect import Connector, explain_failure
from relay.database.faults import POOLED, CallFaults, call_in_parts
from relay.database.heartbeat import Heartbeat
from relay.database.probe import ListenProbe
from relay.database.session import DatabaseSession
from relay.dsn import list_ignored, read_dsn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.delivery.hub import Hub
    from relay.delivery.receipts import Receipts
    from relay.metrics import Metrics
    from relay.records import AttachRequest, AttachResult, Page
    from relay.settings import Settings
    from relay.state import RelayState

log = logging.getLogger("relay.listener")

STALE_SECONDS = 5.0
FORGOTTEN_SECONDS = 30.0  # after this long without a read every client attaches anew
NOTIFY_POLL, POLL = 2.0, 1.0  # seconds between reads without a NOTIFY, in mode notify and otherwise
TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)  # of connecting, LOST
MIN_PAUSE, MAX_PAUSE = 0.1, 5.0  # seconds between reads that are answered unexpectedly


class Listener:
    """The one reader of the event log in this process. Its states are drawn in relay/state.py."""

    def __init__(self, settings: Settings, hub: Hub, metrics: Metrics, receipts: Receipts, state: RelayState) -> None:
        self._settings = settings
        self._hub = hub
        self._metrics = metrics
        self._state = state
        self._faults = CallFaults(state)
        self._heartbeat = Heartbeat(hub, metrics, receipts, state, self._faults)
        self._probe = ListenProbe(metrics, state, self._faults)
        self._hosts = [Connector(host, settings) for host in read_dsn(settings.dsn.get_secret_value())]
        self._reasons: dict[int, str] = {}  # why each host is not followed, as logged last
        self._session: DatabaseSession | None = None
        self._woken = asyncio.Event()
        self._was_woken = False
        self._read_at = time.monotonic()
        self._read_wall = time.time()

    async def run(self) -> None:
        """Connect to one host after the other, for ever, and follow each until it fails.

        A host that doesn't answer takes connect_seconds.
        """
        if ignored := list_ignored(self._hosts[0].host):
            log.warning("parameters of RELAY_DSN that have no effect here", extra={"ignored": ignored})
        while True:
            for number, connector in enumerate(self._hosts):
                try:
                    # In a task of its own: on Python 3.11.2 (Debian 12) one whose TaskGroup has failed still counts as
                    # cancelled, so that asyncio.timeout() in it raises CancelledError, which would end this loop.
                    await asyncio.create_task(self._follow_host(connector))
                except* TROUBLE as group:
                    self._log_failure(number, leaf(group))
                finally:
                    self._end_session()
            await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - spreads reconnects, no secret

    def _log_failure(self, host: int, error: BaseException) -> None:
        if isinstance(error, POOLED):  # its backends had not been seen to change
            self._hosts[host].is_pooled = True
        reason = explain_failure(error)
        if self._reasons.get(host) != reason:
            log.warning("database not followed", extra={"host": host, "reason": reason})
        self._reasons[host] = self._state.problem = reason

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.terminate()
            self._hub.invalidate_attaches()
        self._session = None
        self._probe.forget()
        self._state.phase = "connecting"

    async def _follow_host(self, connector: Connector) -> None:
        session = await DatabaseSession.open(connector, self._notified, self._probe.on_notify)
        self._session = session
        self._metrics.connects.inc()
        self._state.phase = "catching up"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._probe.keep_sending(session))
                tasks.create_task(self._follow(session))
                tasks.create_task(self._heartbeat.keep_beating(session))
                tasks.create_task(self._heartbeat.keep_receipts(session))
                tasks.create_task(self._heartbeat.keep_checking_blocks(session))
        except asyncio.CancelledError:
            await self._heartbeat.sign_off(session)
            raise

    # ---- reading

    async def _follow(self, session: DatabaseSession) -> None:
        empty = 0
        while True:
            woken, self._was_woken = self._was_woken, False
            self._woken.clear()
            page = await self._read(session)
            now = time.monotonic()
            if self._hub.incarnation is not None and now - self._read_at > FORGOTTEN_SECONDS:
                self._hub.attach_afresh()
            self._read_at, self._read_wall = now, time.time()
            self._hub.take(page)
            self._metrics.reads.inc()
            if page.more:
                continue
            self._be_live()
            if woken and not page.events and not page.blocks:
                self._metrics.empty.inc()
                empty += 1  # any role may NOTIFY: each further empty wake-up is answered more slowly
                await asyncio.sleep(min(0.001 * empty, 0.05))
            else:
                empty = 0
            try:
                async with asyncio.timeout(NOTIFY_POLL if self._state.mode == "notify" else POLL):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _read(self, session: DatabaseSession) -> Page:
        """The next page. After an unexpected answer it reads again, after pauses that grow."""
        pause = MIN_PAUSE
        while True:
            page = await self._faults.recorded("relay_events", session.read(self._hub.cursor))
            if page is not None:
                return page
            await asyncio.sleep(pause)
            pause = min(MAX_PAUSE, pause * 2)

    def _notified(self) -> None:
        self._was_woken = True
        self._woken.set()

    def _be_live(self) -> None:
        if self._state.phase != "live":
            self._state.phase = "live"
            self._reasons.clear()
            self._state.changed.set()
            log.info("live", extra={"cursor": self._hub.cursor})
        if self._state.is_stale:
            self._state.is_stale = False
            self._hub.send_live()

    def check_stale(self) -> None:
        """Send `stale` to the clients after STALE_SECONDS without a read. Called every second."""
        age = time.monotonic() - self._read_at
        if not self._state.is_stale and self._hub.incarnation is not None and age > STALE_SECONDS:
            self._state.is_stale = True
            log.warning("stale", extra={"since": self._read_wall})
            self._hub.send_stale(self._read_wall)

    # ---- calls on behalf of the other rooms

    async def attach(self, requests: Sequence[AttachRequest]) -> list[AttachResult | None]:
        """relay_attach for the hub. None: there is no answer to just this request.

        Raises TimeoutError when it takes too long, ConnectionError when there is no database to ask.
        """
        session = self._session
        if session is None:
            raise ConnectionError("not connected")
        try:
            results, unexpected = await call_in_parts(session.attach, requests)
        except (TimeoutError, asyncpg.QueryCanceledError) as error:  # the session stays usable
            log.warning("attach took too long", extra={"requests": len(requests)})
            raise TimeoutError from error
        except TROUBLE as error:
            log.warning("attach failed", extra={"reason": f"{type(error).__name__}: {error}"})
            session.terminate()
            raise ConnectionError(str(error)) from error
        self._faults.record("relay_attach", unexpected)
        return results

    async def status(self) -> str:
        """relay_status for /ops. Raises ConnectionError with the reason when there is no answer."""
        if self._session is None:
            raise ConnectionError(self._state.reason)
        try:
            status = await self._faults.recorded("relay_status", self._session.status())
        except TROUBLE as error:
            log.warning("relay_status failed", extra={"reason": f"{type(error).__name__}: {error}"})
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        if status is None:
            raise ConnectionError(self._state.fault)
        return status


def leaf(error: BaseException) -> BaseException:
    """The first exception that is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
