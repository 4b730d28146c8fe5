"""A client that misses nothing: resumes by cursor, drops duplicates by id, comes back in time, follows drain.

What `relay tail` and the tests use, and what to copy into a client of your own. It never makes a token.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from relay.frames import SUBPROTOCOL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SILENCE_SECONDS = 45.0
STOP = {4400: "the relay did not understand us", 4403: "blocked"}
REMEMBERED = 1000


class Stopped(Exception):
    """Coming back makes no sense: the code and what it means."""


class Client:
    """One user's stream of events.

    url: ws://…/ws. token: called for a token before each connection. cursor: where to go on; the attribute is
    kept up to date and is what to store. all_frames: also yield hello, snapshot, reset, ping, stale, live.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        cursor: str | None = None,
        *,
        all_frames: bool = False,
        acks: bool = True,
    ) -> None:
        self.cursor = cursor
        self.node: str | None = None
        self._url = url
        self._token = token
        self._all = all_frames
        self._acks = acks
        self._seen: deque[str] = deque(maxlen=REMEMBERED)
        self._failures = 0
        self._was_refused = False
        self._connection: ClientConnection | None = None

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        """Events (and other frames if asked for), for ever. Raises Stopped."""
        while True:
            delay: float | None = None
            try:
                async with await self._connect() as connection:
                    self._connection = connection
                    async for frame in self._follow(connection):
                        yield frame
            except ConnectionClosed as closed:
                delay = self._delay(closed)
            except (OSError, InvalidHandshake, InvalidMessage, TimeoutError):
                pass
            finally:
                self._connection = None
            await asyncio.sleep(self._backoff() if delay is None else delay)

    async def sync(self) -> None:
        """Ask for a snapshot: after own changes, or when the page becomes visible again."""
        if self._connection is not None:
            with suppress(ConnectionClosed):
                await self._connection.send('{"type":"sync"}')

    async def _connect(self) -> ClientConnection:
        return await connect(
            self._url + (f"?after={self.cursor}" if self.cursor else ""),
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            additional_headers={"Authorization": f"Bearer {self._token()}"},
            compression=None,
            open_timeout=5,
            close_timeout=2,
            ping_interval=None,
        )

    async def _follow(self, connection: ClientConnection) -> AsyncIterator[dict[str, Any]]:
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                frame = json.loads(await connection.recv())
            kind = frame["type"]
            if kind in ("hello", "reset"):
                self._failures, self._was_refused = 0, False
                self.node = frame["node"]
                self.cursor = frame["cursor"]
            elif ":" in kind:
                if self._acks:
                    await connection.send(json.dumps({"type": "ack", "cursor": frame["cursor"]}))
                is_new = frame["id"] not in self._seen
                if is_new:
                    self._seen.append(frame["id"])
                    yield frame
                self.cursor = frame["cursor"]
                continue
            elif kind == "auth_expiring":
                await connection.send(json.dumps({"type": "auth", "token": self._token()}))
            elif kind == "drain":
                if self._all:
                    yield frame
                await asyncio.sleep(frame["retryAfterMs"] / 1000)
                await connection.close()
            if self._all:
                yield frame

    def _delay(self, closed: ConnectionClosed) -> float | None:
        """How long to stay away; None: back off. Raises Stopped."""
        if closed.rcvd is None:
            return None
        code = closed.rcvd.code
        try:
            wait: float | None = float(json.loads(closed.rcvd.reason)["retryAfterMs"]) / 1000
        except (ValueError, KeyError, TypeError):
            wait = None
        if code in STOP or (code == 4401 and self._was_refused):
            raise Stopped(f"{code}: {STOP.get(code, 'the token is not accepted')}; {closed.rcvd.reason}")
        self._was_refused = code == 4401
        return wait

    def _backoff(self) -> float:
        self._failures += 1
        return random.uniform(0.1, min(30.0, 0.25 * 2 ** min(self._failures, 7)))  # noqa: S311 - spreads reconnects
