"""A client that misses nothing: resumes by cursor, drops duplicates by id, comes back in time, follows drain.

What `relay tail` and the tests use, and what to copy into a client of your own. It never makes a token. A relay that
misbehaves costs back-off, never the stream: what ends the stream is raised to its reader.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import math
import random
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Never, TypeVar
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from relay.protocol import SUBPROTOCOL, Action, BadFrame, action_for, parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

log = logging.getLogger("relay.client")

SILENCE_SECONDS = 45.0  # without a frame: dead, whatever TCP believes
PATIENCE_SECONDS = 10.0  # for a hello
TOKEN_SECONDS = 15.0  # for a token
LONGEST_HEADER = 4000  # characters of a token; many proxies take no longer line: the first frame has room for more
DAY_MS = 86_400_000.0  # the longest retryAfterMs that is believed
SETTLED_SECONDS = 10.0  # a connection that lasted so long was a good one: the back-off starts afresh
REMEMBERED = 1000
AHEAD = 100  # frames read before they are handled; beyond it the relay waits, and in the end cuts us

UNREADABLE = 1003  # RFC 6455 7.4.1: received data of a type that cannot be accepted
NEEDED = {"hello": ("start", "cursor"), "reset": ("cursor",)}  # text fields, by type
NEEDED_BY_EVENTS = ("id", "cursor")

Result = TypeVar("Result")
Frame = dict[str, Any]


class Stopped(Exception):
    """Coming back makes no sense: the code and what it means."""


class NoToken(Exception):
    """The callback gave no token: it raised or took too long."""


class Client:
    """One user's stream of events.

    url: ws://…/ws. token: called, and awaited if need be, for a token before each connection and when one runs out;
    what it raises counts as a failed attempt. cursor: where to go on; the attribute is kept up to date, once the frame
    has been handled, and is what to store. all_frames: also yield hello, snapshot, reset, ping, stale, live, drain.
    acks: tell the relay what has been handled.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str | Awaitable[str]],
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
        self._frames: asyncio.Queue[tuple[ClientConnection, Frame]] = asyncio.Queue(AHEAD)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def frames(self) -> AsyncIterator[Frame]:
        """Events (and other frames if asked for), for ever. Raises Stopped, and InvalidURI for a wrong address."""
        keeping = asyncio.create_task(self._keep_connected())
        try:
            while True:
                connection, frame = await self._next_frame(keeping)
                is_event = ":" in frame["type"]
                if self._is_wanted(frame, is_event):
                    yield frame
                self._moved(frame, is_event)
                if is_event and self._acks:
                    with suppress(ConnectionClosed):
                        await connection.send(json.dumps({"type": "ack", "cursor": frame["cursor"]}))
        finally:
            tasks = (keeping, *self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def sync(self) -> None:
        """Ask for a snapshot: after own changes."""
        if self._connection is not None:
            with suppress(ConnectionClosed):
                await self._connection.send('{"type":"sync"}')

    async def _next_frame(self, keeping: asyncio.Task[Never]) -> tuple[ClientConnection, Frame]:
        """What was received next. Raises what ended `keeping`, once all that came before has been handed out."""
        if not self._frames.empty():
            return self._frames.get_nowait()
        arriving = self._start(self._frames.get())
        await asyncio.wait((arriving, keeping), return_when=asyncio.FIRST_COMPLETED)
        if arriving.done():
            return arriving.result()
        arriving.cancel()
        return keeping.result()

    def _is_wanted(self, frame: Frame, is_event: bool) -> bool:
        if not is_event:
            return self._all
        if frame["id"] in self._seen:
            return False
        self._seen.append(frame["id"])
        return True

    def _moved(self, frame: Frame, is_event: bool) -> None:
        """The place to come back to. After a hello that replays, the missed events follow with cursors of their own."""
        if is_event or frame["type"] == "reset" or (frame["type"] == "hello" and frame["start"] != "replayed"):
            self.cursor = frame["cursor"]

    # ---- connections: one, and two while the first is being drained

    async def _keep_connected(self) -> Never:
        """Open one connection after the other. Raises Stopped, and errors that another attempt cannot solve."""
        wait = 0.0
        while True:
            await asyncio.sleep(wait)
            drained: asyncio.Future[float] = asyncio.get_running_loop().create_future()
            following = self._start(self._follow(drained))
            await asyncio.wait((following, drained), return_when=asyncio.FIRST_COMPLETED)
            # A drained connection is used until its successor has its hello; then _adopt() closes it.
            wait = drained.result() if drained.done() else following.result()

    def _start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _follow(self, drained: asyncio.Future[float]) -> float:
        """One connection from beginning to end. Returns for how many seconds to stay away. Raises Stopped.

        At its first drain, `drained` gets the same; later ones are ignored, as the next connection is being opened.
        """
        loop = asyncio.get_running_loop()
        greeted_at: float | None = None
        code, reason = 1006, ""

        def was_good() -> bool:
            return greeted_at is not None and loop.time() - greeted_at > SETTLED_SECONDS

        try:
            async with await self._connect() as connection:
                deadline = loop.time() + PATIENCE_SECONDS
                renewing: asyncio.Task[None] | None = None
                while True:
                    async with asyncio.timeout_at(deadline):
                        data = await connection.recv()
                    try:
                        frame = read_frame(data)
                    except BadFrame:
                        await connection.close(UNREADABLE)
                        raise
                    if frame["type"] == "hello":
                        greeted_at = greeted_at or loop.time()
                        self._adopt(connection, frame)
                    elif frame["type"] == "auth_expiring" and (renewing is None or renewing.done()):
                        renewing = self._start(self._renew(connection))
                    elif frame["type"] == "drain" and greeted_at is not None and not drained.done():
                        drained.set_result(self._wait(retry_ms(frame), was_good()))
                    await self._frames.put((connection, frame))
                    if greeted_at is not None:
                        deadline = loop.time() + SILENCE_SECONDS
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                code, reason = closed.rcvd.code, closed.rcvd.reason
        except InvalidStatus as refused:
            status = refused.response.status_code
            if 400 <= status < 500 and status not in (408, 429):
                raise Stopped(f"HTTP {status}: {(refused.response.body or b'').decode(errors='replace')}") from None
        except (OSError, InvalidHandshake, InvalidMessage, TimeoutError, BadFrame, NoToken) as error:
            log.debug("an attempt failed", extra={"reason": type(error).__name__})
        return 0.0 if drained.done() else self._delay(code, reason, was_good())

    async def _connect(self) -> ClientConnection:
        token = await self._fetch_token()
        in_header = len(token) <= LONGEST_HEADER
        connection = await connect(
            self._url + (f"?after={quote(self.cursor, safe='', errors='replace')}" if self.cursor else ""),
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            additional_headers={"Authorization": f"Bearer {token}"} if in_header else {},
            compression=None,
            open_timeout=5,
            close_timeout=2,
            ping_interval=None,
        )
        if not in_header:
            await connection.send(json.dumps({"type": "auth", "token": token}))
        return connection

    async def _fetch_token(self) -> str:
        """A token of the callback. Raises NoToken for whatever it raises: it is not our code."""
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                token = self._token()
                return await token if inspect.isawaitable(token) else token
        except Exception as error:
            log.warning("the token callback failed", exc_info=True)
            raise NoToken from error

    async def _renew(self, connection: ClientConnection) -> None:
        """Send a new token. If there is none the relay closes with 4401 in time, and the next attempt asks again."""
        with suppress(NoToken, ConnectionClosed):
            await connection.send(json.dumps({"type": "auth", "token": await self._fetch_token()}))

    def _adopt(self, connection: ClientConnection, hello: Frame) -> None:
        old, self._connection = self._connection, connection
        self.node = hello.get("node")
        self._was_refused = False
        if old is not None and old is not connection:
            self._start(old.close())

    def _delay(self, code: int, reason: str, was_good: bool) -> float:
        """For how many seconds to stay away after a close frame. Raises Stopped."""
        action = action_for(code)
        if action is Action.STOP:
            raise Stopped(f"{code}: the relay did not understand us")
        if action is Action.RENEW_TOKEN and self._was_refused:
            raise Stopped(f"{code}: the token is not accepted")
        self._was_refused = action is Action.RENEW_TOKEN
        try:
            wanted = retry_ms(json.loads(reason))
        except (ValueError, RecursionError):
            wanted = None
        return self._wait(wanted, was_good)

    def _wait(self, wanted_ms: float | None, was_good: bool) -> float:
        """Seconds of back-off after a connection. was_good: it lasted, so that this is the first failure."""
        self._failures = 1 if was_good else self._failures + 1
        spread = random.uniform(0.1, min(30.0, 0.25 * 2 ** min(self._failures, 7)))  # noqa: S311 - spreads reconnects
        if wanted_ms is None:
            return spread
        # The relay spreads its clients itself; only if that doesn't help we keep away for longer.
        return wanted_ms / 1000 if self._failures == 1 else max(wanted_ms / 1000, spread)


def read_frame(data: str | bytes) -> Frame:
    """What the relay sent. Raises BadFrame if it isn't a message of the protocol with the fields that we rely on."""
    frame = parse({"text": data if isinstance(data, str) else None})
    needed = NEEDED_BY_EVENTS if ":" in frame["type"] else NEEDED.get(frame["type"], ())
    if not all(isinstance(frame.get(name), str) for name in needed):
        raise BadFrame("a field is missing")
    return frame


def retry_ms(message: object) -> float | None:
    """retryAfterMs of a message, cut to 0 … 1 day; None if it isn't there or is no number."""
    given = message.get("retryAfterMs") if isinstance(message, dict) else None
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return None
    wanted = float(min(max(given, 0), DAY_MS))  # cut first: an int may be too large for a float
    return None if math.isnan(wanted) else wanted
