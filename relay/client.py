"""A client that misses nothing: resumes by cursor, drops duplicates by id, comes back in time, follows drain.

What `relay tail` and the tests use, and what to copy into a client of your own. It never makes a token.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from relay.frames import BAD_FRAME, SUBPROTOCOL, TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

SILENCE_SECONDS = 45.0  # without a frame: dead, whatever TCP believes
PATIENCE_SECONDS = 10.0  # for a hello
SETTLED_SECONDS = 10.0  # a connection that lasted so long was a good one: the back-off starts afresh
REMEMBERED = 1000
AHEAD = 100  # frames read before they are handled; beyond it the relay waits, and in the end cuts us


Result = TypeVar("Result")


class Stopped(Exception):
    """Coming back makes no sense: the code and what it means."""


class Client:
    """One user's stream of events.

    url: ws://…/ws. token: called for a token before each connection and when one runs out. cursor: where to go on;
    the attribute is kept up to date, once the frame has been handled, and is what to store. all_frames: also yield
    hello, snapshot, reset, ping, stale, live, drain. acks: tell the relay what has been handled.
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
        self._frames: asyncio.Queue[tuple[ClientConnection, dict[str, Any]] | Stopped] = asyncio.Queue(AHEAD)
        self._drained: asyncio.Future[float] | None = None
        self._lines: set[asyncio.Task[Any]] = set()

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        """Events (and other frames if asked for), for ever. Raises Stopped."""
        keeping = asyncio.create_task(self._keep_connected())
        try:
            while True:
                item = await self._frames.get()
                if isinstance(item, Stopped):
                    raise item
                connection, frame = item
                is_event = ":" in frame["type"]
                if self._is_wanted(frame, is_event):
                    yield frame
                self._moved(frame, is_event)
                if is_event and self._acks:
                    with suppress(ConnectionClosed):
                        await connection.send(json.dumps({"type": "ack", "cursor": frame["cursor"]}))
        finally:
            for task in (keeping, *self._lines):
                task.cancel()
            await asyncio.gather(keeping, *self._lines, return_exceptions=True)

    async def sync(self) -> None:
        """Ask for a snapshot: after own changes."""
        if self._connection is not None:
            with suppress(ConnectionClosed):
                await self._connection.send('{"type":"sync"}')

    def _is_wanted(self, frame: dict[str, Any], is_event: bool) -> bool:
        if not is_event:
            return self._all
        if frame["id"] in self._seen:
            return False
        self._seen.append(frame["id"])
        return True

    def _moved(self, frame: dict[str, Any], is_event: bool) -> None:
        """The place to come back to. After a hello that replays, the missed events follow with cursors of their own."""
        if is_event or frame["type"] == "reset" or (frame["type"] == "hello" and frame["start"] != "replayed"):
            self.cursor = frame["cursor"]

    # ---- connections: one, and two while the first is being drained

    async def _keep_connected(self) -> None:
        wait = 0.0
        while True:
            await asyncio.sleep(wait)
            self._drained = asyncio.get_running_loop().create_future()
            line = self._start(self._follow())
            either: set[asyncio.Future[Any]] = {line, self._drained}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._drained.done():
                wait = self._drained.result()
                continue  # the old line goes on until the new one is greeted
            try:
                wait = self._delay(*line.result())
            except Stopped as stopped:
                await self._frames.put(stopped)
                return

    def _start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(work)
        self._lines.add(task)
        task.add_done_callback(self._lines.discard)
        return task

    async def _follow(self) -> tuple[int, str, bool]:
        """One connection from beginning to end: its code, its reason, and whether it was a good one. Raises Stopped."""
        loop = asyncio.get_running_loop()
        greeted_at: float | None = None
        code, reason = 1006, ""
        try:
            async with await self._connect() as connection:
                while True:
                    async with asyncio.timeout(SILENCE_SECONDS if greeted_at else PATIENCE_SECONDS):
                        frame = json.loads(await connection.recv())
                    if frame["type"] == "hello":
                        greeted_at = loop.time()
                        self._adopt(connection, frame)
                    elif frame["type"] == "auth_expiring":
                        await connection.send(json.dumps({"type": "auth", "token": self._token()}))
                    elif frame["type"] == "drain" and self._drained and not self._drained.done():
                        self._drained.set_result(frame["retryAfterMs"] / 1000)
                    await self._frames.put((connection, frame))
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                code, reason = closed.rcvd.code, closed.rcvd.reason
        except InvalidStatus as refused:
            status = refused.response.status_code
            if 400 <= status < 500 and status not in (408, 429):
                raise Stopped(f"HTTP {status}: {(refused.response.body or b'').decode(errors='replace')}") from None
        except (OSError, InvalidHandshake, InvalidMessage, TimeoutError):
            pass
        return code, reason, greeted_at is not None and loop.time() - greeted_at > SETTLED_SECONDS

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

    def _adopt(self, connection: ClientConnection, hello: dict[str, Any]) -> None:
        old, self._connection = self._connection, connection
        self.node = hello["node"]
        self._was_refused = False
        if old is not None:
            self._start(old.close())

    def _delay(self, code: int, reason: str, was_good: bool) -> float:
        """How long to stay away, in seconds. Raises Stopped."""
        if code == BAD_FRAME or (code == TOKEN and self._was_refused):
            why = "the relay did not understand us" if code == BAD_FRAME else "the token is not accepted"
            raise Stopped(f"{code}: {why}")
        self._was_refused = code == TOKEN
        self._failures = 1 if was_good else self._failures + 1
        spread = random.uniform(0.1, min(30.0, 0.25 * 2 ** min(self._failures, 7)))  # noqa: S311 - spreads reconnects
        try:
            wait = float(json.loads(reason)["retryAfterMs"]) / 1000
        except (ValueError, KeyError, TypeError):
            return spread
        # The relay spreads its clients itself; only if that doesn't help we keep away for longer.
        return wait if self._failures == 1 else max(wait, spread)
