"""Keeps one LISTEN connection alive and the hub up to date. A NOTIFY only wakes it, its text is never read.

connecting --LISTEN--> catching up --read to the head--> live (mode notify; polling while the canary is lost)
    ^                       |                             |
    +--- closed, silent for CALL_SECONDS, not a primary --+        in any of them: no read for 5 s is "stale"
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

import asyncpg

from relay.database.faults import POOLED, Strangeness, call_in_parts
from relay.database.heartbeat import Heartbeat
from relay.database.probe import ListenProbe
from relay.database.session import DatabaseSession
from relay.settings import split_hosts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.delivery.hub import Hub
    from relay.delivery.receipts import Receipts
    from relay.metrics import Metrics
    from relay.records import AttachRequest, AttachResult, Event, Page
    from relay.settings import Settings

log = logging.getLogger("relay.listener")

STALE_SECONDS = 5.0
FORGOTTEN_SECONDS = 30.0  # without a read for longer, no client's place is taken for granted
NOTIFY_POLL, DEAF_POLL = 2.0, 1.0  # seconds between reads that nothing asked for
FOLLOWING: dict[str | None, str] = {
    "notify": "following",
    None: "following; whether NOTIFY comes through is not known yet",
    "polling": "polling: the canary NOTIFY does not come back (a transaction pooler in between?)",
}
TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)  # of connecting, LOST
MIN_PAUSE, MAX_PAUSE = 0.1, 5.0  # seconds between reads that are answered strangely


class Listener:
    """The one reader of the event log in this process."""

    def __init__(self, settings: Settings, hub: Hub, metrics: Metrics, receipts: Receipts) -> None:
        self._settings = settings
        self._hub = hub
        self._metrics = metrics
        self.strangeness = Strangeness()
        self._heartbeat = Heartbeat(hub, metrics, receipts, self.strangeness)
        self._probe = ListenProbe(metrics, self._heartbeat, self.strangeness)
        self._hosts = split_hosts(settings.dsn.get_secret_value())
        self._said: dict[int, str] = {}  # why each host is not followed: told once
        self._session: DatabaseSession | None = None
        self._woken = asyncio.Event()
        self._was_woken = False
        self._read_at = time.monotonic()
        self._read_wall = time.time()
        self._told_stale = False
        self._base = "connecting"
        self.is_draining = False
        self._reason = "not connected yet"

    @property
    def mode(self) -> str | None:
        """notify, polling, or None while that is not known."""
        return self._probe.mode

    @property
    def state(self) -> str:
        """connecting, catching up, live, stale or draining."""
        if self.is_draining:
            return "draining"
        if self._told_stale:
            return "stale"
        return self._base

    @property
    def reason(self) -> str:
        """Why it is in this state, in words."""
        if self.is_draining:
            return "told to stop"
        if self.strangeness.reason:
            return self.strangeness.reason
        return FOLLOWING[self.mode] if self.state == "live" else self._reason

    async def run(self) -> None:
        """Connect, follow, and do it again, for ever. A host that doesn't answer costs connect_seconds."""
        while True:
            for number, dsn in enumerate(self._hosts):
                try:
                    await self._follow_host(dsn)
                except* TROUBLE as group:
                    self._say(number, leaf(group))
                finally:
                    self._end_session()
            await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - spreads reconnects, no secret

    def _say(self, host: int, error: BaseException) -> None:
        if isinstance(error, POOLED) and not self._probe.pooled:
            self._probe.pooled = True
            log.warning("a transaction pooler is in between: polling, nothing prepared")
        said = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        reason = f"{type(error).__name__}: {said}".splitlines()[0][:300]
        if self._said.get(host) != reason:
            log.warning("database not followed", extra={"host": host, "reason": reason})
        self._said[host] = self._reason = reason

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.terminate()
            self._hub.lost()
        self._session = None
        self._probe.forget()
        self._base = "connecting"

    async def _follow_host(self, dsn: str) -> None:
        session = await DatabaseSession.open(
            dsn, self._settings, self._notified, self._probe.on_notify, pooled=self._probe.pooled
        )
        self._session = session
        self._metrics.connects.inc()
        self._base = "catching up"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._probe.keep_sending(session))
                tasks.create_task(self._follow(session))
                tasks.create_task(self._heartbeat.keep_beating(session, self))
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
            started = time.time()
            page = await self._read(session)
            log_reads(started, page.events)
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
                empty += 1  # anybody may NOTIFY: wake-ups for nothing are answered ever more slowly
                await asyncio.sleep(min(0.001 * empty, 0.05))
            else:
                empty = 0
            try:
                async with asyncio.timeout(NOTIFY_POLL if self.mode == "notify" else DEAF_POLL):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _read(self, session: DatabaseSession) -> Page:
        """The next page. While it is answered strangely: again, after pauses that grow."""
        pause = MIN_PAUSE
        while True:
            page = await self.strangeness.noted("relay_events", session.read(self._hub.cursor))
            if page is not None:
                return page
            await asyncio.sleep(pause)
            pause = min(MAX_PAUSE, pause * 2)

    def _notified(self) -> None:
        self._was_woken = True
        self._woken.set()

    def _be_live(self) -> None:
        if self._base != "live":
            self._base = "live"
            self._said.clear()
            self._heartbeat.changed()
            log.info("live", extra={"cursor": self._hub.cursor})
        if self._told_stale:
            self._told_stale = False
            self._hub.tell_live()

    def check_stale(self) -> None:
        """Called every second: tell the clients when what they see may be old."""
        age = time.monotonic() - self._read_at
        if not self._told_stale and self._hub.incarnation is not None and age > STALE_SECONDS:
            self._told_stale = True
            log.warning("stale", extra={"since": self._read_wall})
            self._hub.tell_stale(self._read_wall)

    # ---- what others ask of the database

    async def attach(self, requests: Sequence[AttachRequest]) -> list[AttachResult | None]:
        """relay_attach for the hub. None: there is no answer to just this request.

        Raises TimeoutError when it takes too long, ConnectionError when there is no database to ask.
        """
        session = self._session
        if session is None:
            raise ConnectionError("not connected")
        started = time.time()
        try:
            results, strange = await call_in_parts(session.attach, requests)
        except (TimeoutError, asyncpg.QueryCanceledError) as error:  # no reason to lose our place
            log.warning("attach took too long", extra={"requests": len(requests)})
            raise TimeoutError from error
        except TROUBLE as error:
            log.warning("attach failed", extra={"reason": f"{type(error).__name__}: {error}"})
            session.terminate()
            raise ConnectionError(str(error)) from error
        self.strangeness.note("relay_attach", strange)
        for result in results:
            log_reads(started, [] if result is None else result.events)
        return results

    async def status(self) -> str:
        """relay_status for /ops. Raises ConnectionError with the reason when there is no answer."""
        if self._session is None:
            raise ConnectionError(self.reason)
        try:
            status = await self.strangeness.noted("relay_status", self._session.status())
        except TROUBLE as error:
            log.warning("relay_status failed", extra={"reason": f"{type(error).__name__}: {error}"})
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        if status is None:
            raise ConnectionError(self.strangeness.reason)
        return status


def log_reads(started: float, events: list[Event]) -> None:
    """At level debug: which events were read, by a call that began then. For the fault matrix's checker."""
    if events and log.isEnabledFor(logging.DEBUG):
        log.debug("read", extra={"started": started, "cursors": [event.cursor for event in events]})


def leaf(error: BaseException) -> BaseException:
    """The first exception that is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
