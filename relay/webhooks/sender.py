"""The sender: takes pushes from the database under a lease, POSTs each once, records what came of it.

What is to be sent, to whom, until when and how often is decided by after_hours.push_claim() and push_result(). Any
number of senders may run. At least once: a sender that is killed between the request and its record leaves a lease that
ends, and the push is sent again with the same webhook-id, unless a client has acknowledged it by then.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import psycopg

from relay.logs import RateLimitedLogger
from relay.webhooks.signing import SecretError, read_secrets, sign

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from uuid import UUID

log = logging.getLogger("relay.webhooks")
rare = RateLimitedLogger(log)

LEASE_SECONDS = 30
REQUEST_SECONDS = 10.0
POLL_SECONDS = 0.5
RECONNECT_SECONDS = 5.0
MOST_RETRY_AFTER = timedelta(hours=1)
LOST = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)

Connection = psycopg.AsyncConnection[Any]


class Claim(NamedTuple):
    """A row of push_claim(): what to send within seconds_left."""

    push_id: int
    attempt: int
    target: str
    url: str
    secret_name: str
    uid: UUID
    body: str
    seconds_left: float


class Outcome(NamedTuple):
    """What came of a request: an HTTP status, or an error where there is none."""

    status: int | None
    error: str | None = None
    retry_after: timedelta | None = None


class Sender:
    """Claims and sends until it is told to stop. `connect` opens an autocommit connection to the primary."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], client: httpx.AsyncClient, secrets: Path, node: str
    ) -> None:
        self._connect = connect
        self._client = client
        self._secrets = secrets
        self._node = node
        self._connection: Connection | None = None
        self._calls = asyncio.Lock()
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop`; requests that are under way are finished and recorded."""
        pause = POLL_SECONDS
        while not stop.is_set():
            try:
                pause = 0.05 if await self._start_claimed() else POLL_SECONDS
            except LOST as error:
                rare.warning("no connection to the database, trying again", error=str(error).strip())
                pause = random.uniform(0.5, 1) * RECONNECT_SECONDS  # noqa: S311 # jitter
            except psycopg.Error as error:
                rare.error("the database does not give out pushes", error=str(error).strip())
                pause = RECONNECT_SECONDS
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                continue
        await self._finish()

    async def run_once(self) -> int:
        """Send what is due now and return the number of requests. Raises psycopg.Error."""
        total = 0
        while started := await self._start_claimed():
            total += started
            await asyncio.gather(*self._sending)
        await self._finish()
        return total

    async def _finish(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=LEASE_SECONDS)
        if self._connection is not None:
            await self._connection.close()

    async def _start_claimed(self) -> int:
        asked_at = (
            asyncio.get_running_loop().time()
        )  # before the claim: nothing is sent after its time, whatever the delay
        claims = await self._call(
            b"select * from after_hours.push_claim(%s, make_interval(secs => %s))", self._node, LEASE_SECONDS
        )
        for each in claims:
            task = asyncio.create_task(self._send(Claim(*each), asked_at))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return len(claims)

    async def _send(self, claim: Claim, asked_at: float) -> None:
        ends_at = asked_at + claim.seconds_left
        try:
            async with asyncio.timeout_at(min(ends_at, asyncio.get_running_loop().time() + REQUEST_SECONDS)):
                outcome = await self._post(claim)
        except TimeoutError:
            outcome = Outcome(None, "no answer in time")
        log.info(
            "push",
            extra={
                "push_id": claim.push_id, "attempt": claim.attempt, "target": claim.target,
                "status": outcome.status, "error": outcome.error,
            },
        )  # fmt: skip
        while True:
            try:
                await self._call(
                    b"select after_hours.push_result(%s, %s, %s, %s, %s)", claim.push_id, claim.attempt, *outcome
                )
                return
            except psycopg.Error as error:
                if not isinstance(error, LOST) or asyncio.get_running_loop().time() > asked_at + LEASE_SECONDS:
                    log.error(
                        "an outcome was not recorded", extra={"push_id": claim.push_id, "error": str(error).strip()}
                    )
                    return
                await asyncio.sleep(random.uniform(0.5, 1))  # noqa: S311 # jitter

    async def _post(self, claim: Claim) -> Outcome:
        try:
            headers = sign(read_secrets(self._secrets, claim.secret_name), str(claim.uid), claim.body)
            async with self._client.stream(
                "POST",
                claim.url,
                content=claim.body.encode(),
                headers={"content-type": "application/json", **headers},
                timeout=None,  # one clock for all of it: the caller's
            ) as response:
                return Outcome(response.status_code, None, retry_after(response.headers.get("retry-after")))
        except SecretError as error:
            return Outcome(None, str(error))
        except httpx.HTTPError as error:
            return Outcome(None, f"{type(error).__name__}: {error}"[:500])
        except httpx.InvalidURL:
            return Outcome(None, "the address of the target is not valid")

    async def _call(self, statement: bytes, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement, over one connection; a lost one is replaced by the next call."""
        async with self._calls:
            if self._connection is None:
                self._connection = await self._connect()
            try:
                return await (await self._connection.execute(statement, values)).fetchall()
            except LOST:
                await self._connection.close()
                self._connection = None
                raise


def retry_after(value: str | None) -> timedelta | None:
    """The header Retry-After, seconds or a date, at most an hour; None if there is none that can be read."""
    if value is None:
        return None
    try:
        wait = timedelta(seconds=int(value)) if value.isdigit() else parsedate_to_datetime(value) - datetime.now(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait, timedelta(0)), MOST_RETRY_AFTER)
