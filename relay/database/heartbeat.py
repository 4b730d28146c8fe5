"""Periodic calls to the database: heartbeat, rescue pass, receipts, blocks of connected users, sign-off."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING

import asyncpg

from relay.database.faults import UnexpectedAnswer, call_in_parts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from relay.database.faults import CallFaults
    from relay.database.session import DatabaseSession
    from relay.delivery.hub import Hub
    from relay.delivery.receipts import Receipt, Receipts
    from relay.metrics import Metrics
    from relay.state import RelayState

log = logging.getLogger("relay.heartbeat")

BEAT_SECONDS = 10.0
RESCUE_SECONDS = 1.0  # between two passes on behalf of a stopped scheduler
RECEIPT_SECONDS = 1.0
RECEIPTS_AT_ONCE = 2000
LEAVE_SECONDS = 1.0
ROUND_SECONDS = 30  # in which every connected user is asked about
BLOCKS_AT_ONCE = 500


class Heartbeat:
    """Periodic calls over the calling connection of a session. A lost connection is raised and ends the session."""

    def __init__(self, hub: Hub, metrics: Metrics, receipts: Receipts, state: RelayState, faults: CallFaults) -> None:
        self._hub = hub
        self._metrics = metrics
        self._receipts = receipts
        self._state = state
        self._faults = faults
        self._started = datetime.now(UTC)

    async def keep_beating(self, session: DatabaseSession) -> None:
        """Call relay_beat every BEAT_SECONDS and at each change of state; make a rescue pass if it asks for one."""
        while True:
            self._state.changed.clear()
            beat = self._beat(session, self._state.name, self._state.mode)
            wants_rescue = await self._faults.recorded("relay_beat", beat) or False
            wait = BEAT_SECONDS
            if wants_rescue and not self._state.is_draining:
                wait = 0 if await self._rescue(session) else RESCUE_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._state.changed.wait()

    async def _beat(self, session: DatabaseSession, state: str, mode: str | None) -> bool:
        seconds = self._state.probe_seconds
        round_trip = None if seconds is None else timedelta(seconds=seconds)
        wanted = await session.beat(self._hub.node, state, mode, self._hub.count, round_trip, self._started)
        self._receipts.wanted = wanted.receipts
        self._metrics.queue.set(wanted.queue_usage)
        if wanted.heartbeat_age is not None:
            self._metrics.heartbeat.set(wanted.heartbeat_age.total_seconds())
        return wanted.rescue

    async def _rescue(self, session: DatabaseSession) -> bool:
        """Make a rescue pass; whether more is due."""
        try:
            done = await session.rescue()
        except (UnexpectedAnswer, asyncpg.QueryCanceledError, TimeoutError) as error:  # another pass holds the lock
            log.warning("no rescue", extra={"reason": f"{type(error).__name__}: {error}"})
            return False
        self._metrics.rescues.inc()
        log.warning("announced on behalf of a stopped scheduler", extra={"counts": asdict(done)})
        return done.has_more

    async def keep_receipts(self, session: DatabaseSession) -> None:
        """Write receipts every RECEIPT_SECONDS."""
        while True:
            await asyncio.sleep(RECEIPT_SECONDS)
            await self._write_receipts(session)

    async def _write_receipts(self, session: DatabaseSession) -> None:
        rows = self._receipts.take()
        for first in range(0, len(rows), RECEIPTS_AT_ONCE):
            await self._write_some(session, rows[first : first + RECEIPTS_AT_ONCE])

    async def _write_some(self, session: DatabaseSession, rows: Sequence[Receipt]) -> None:
        async def write(part: Sequence[Receipt]) -> Sequence[Receipt]:
            await session.receipts(self._hub.node, part)
            return part

        written, error = await call_in_parts(write, rows)
        self._faults.record("relay_receipts", error)
        self._metrics.receipts_dropped.inc(written.count(None))

    async def keep_checking_blocks(self, session: DatabaseSession) -> None:
        """Ask whether connected users are blocked, all of them once in ROUND_SECONDS.

        relay_events returns the changes of the last minute, by the clock at the instant of writing. A change whose
        transaction commits later than that, or that is not followed by a NOTIFY, is found only here.
        """
        while True:
            await asyncio.sleep(1.0)
            users = list(self._hub.users)
            size = max(1, ceil(len(users) / ROUND_SECONDS))
            for first in range(0, len(users), size):
                await self._check_blocks(session, users[first : first + size])
                await asyncio.sleep(1.0)

    async def _check_blocks(self, session: DatabaseSession, users: Sequence[UUID]) -> None:
        requests = self._hub.block_questions(users)
        for first in range(0, len(requests), BLOCKS_AT_ONCE):
            part = requests[first : first + BLOCKS_AT_ONCE]
            try:
                results, _error = await call_in_parts(session.attach, part)
            except (asyncpg.QueryCanceledError, TimeoutError) as error:
                log.warning("blocks not checked", extra={"reason": f"{type(error).__name__}: {error}"})
                return
            for request, result in zip(part, results, strict=True):
                if result is not None and result.start == "blocked":
                    self._hub.refuse_token(request.user, request.issued_at, result.blocked_ms)

    async def sign_off(self, session: DatabaseSession) -> None:
        """Write the last receipts and remove this relay's row, before the process ends."""
        with suppress(Exception):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._write_receipts(session)
                await self._beat(session, "stopped", None)
