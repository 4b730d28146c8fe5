"""The push protocol for uvicorn's Config(ws=…): one small object for each socket, finished frames out, little in.

Starlette routes, authenticates and accepts; then its coroutine returns and this object alone is left. What comes
in is parsed by websockets' sans-I/O parser, made when bytes arrive and dropped between messages: a client that
only listens has none. Refuses to wait for a client, and to send anything but the frames it is given.

OPENING --accept--> OPEN --close()--> CLOSING --its close frame--> OVER --it closes, or CLOSE_SECONDS--> gone
   |                  +--its close frame, or a fault of its-----> OVER
   +--refused---------------------------------------------------> OVER
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from websockets.frames import CloseCode

from relay import frames, protocol
from relay.websocket.parser import Incoming, is_pong
from relay.websocket.request import refusal
from relay.websocket.stock import CLOSE_SECONDS, CREDIT, FRAME_COST, put

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uvicorn import Config
    from uvicorn.server import ServerState

    from relay.records import Socket
    from relay.websocket.limits import AddressUsage
    from relay.websocket.request import RequestHead
    from relay.websocket.stock import Follower

log = logging.getLogger("relay.push")

SLICE = 4096  # bytes parsed before their price is looked at again
MAX_EARLY = 8192  # bytes kept that came before the handshake's answer
LINGER = 64 * 1024  # bytes still read, unseen, after the last word: the kernel's reset would destroy it


class State(enum.IntEnum):
    """Where a socket is in its life."""

    OPENING, OPEN, CLOSING, OVER = range(4)


class PushProtocol(asyncio.Protocol):
    """One WebSocket, from its complete HTTP head to its end; the hub's sink as well."""

    __slots__ = (
        "_ending", "_follower", "_incoming", "_server_state", "_session", "_socket", "_state", "_transport", "_usage",
        "_written", "credit", "heard_at", "is_slow",
    )  # fmt: skip

    def __init__(
        self,
        usage: AddressUsage,
        transport: asyncio.Transport,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        self._usage, self._transport = usage, transport
        self.credit = CREDIT
        self.heard_at = 0.0
        self.is_slow = False
        self._state = State.OPENING
        self._written = 0
        self._server_state = server_state
        self._session: Session | None = Session(self, config, app_state)
        self._incoming: Incoming | None = None
        self._follower: Follower | None = None
        self._socket: Socket  # there while there is a follower
        self._ending: asyncio.TimerHandle | None = None

    def start(self, head: RequestHead, rest: bytes) -> None:
        """Take over a connection whose head is a good handshake, with the bytes that came after it."""
        self._server_state.connections.add(self)  # type: ignore[arg-type] # uvicorn's own kinds only, it thinks
        self._transport.set_protocol(self)
        if self._session is not None:
            task = asyncio.get_running_loop().create_task(self._session.run(head))
            self._server_state.tasks.add(task)
            task.add_done_callback(self._server_state.tasks.discard)
        if rest:
            self.data_received(rest)

    # ---- the hub's side: Sink

    def write(self, frame: bytes) -> bool:
        """Queue a finished frame; False if the client is gone or is now closed for being too slow."""
        if self._state != State.OPEN or not put(self._transport, self, frame):
            return False
        self._written += len(frame)
        return True

    def ping(self, frame: bytes) -> None:
        """Send a protocol ping and a frame, at the price of one."""
        self.write(frames.PING + frame)

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the connection is cut if it doesn't end in time."""
        if self._state == State.OPEN:
            self._state = State.CLOSING
            self._begin_end(frames.close_frame(code, reason))
            self._let_go(code, reason)

    def abort(self) -> None:
        """Cut the connection now."""
        self._transport.abort()

    def buffered(self) -> int:
        """Bytes written that the kernel hasn't taken yet."""
        return self._transport.get_write_buffer_size()

    def drained(self) -> int:
        """Bytes the kernel has taken since the beginning."""
        return self._written - self.buffered()

    async def follow(self, follower: Follower, socket: Socket) -> None:
        """From here on messages go to the follower; returns at once."""
        if self._state != State.OPEN or self._session is None:
            follower.gone(socket)
            return
        self._follower, self._socket = follower, socket
        while not self._session.queue.empty():
            follower.heard(socket, self._session.queue.get_nowait())

    # ---- the network's side: asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Bytes of the client, in whatever pieces."""
        self.heard_at = time.monotonic()
        self.credit -= len(data)
        if self._state == State.OVER:
            if self.credit < 0:
                self.abort()
        elif self._state == State.OPENING and self._session is not None:
            self._session.early += data
            if len(self._session.early) > MAX_EARLY:
                self.abort()
        elif self._incoming is not None or not is_pong(data):
            for start in range(0, len(data), SLICE):
                if self._is_flooded() or not self._parse(data[start : start + SLICE]):
                    return

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever ended it."""
        self._state = State.OVER
        self._server_state.connections.discard(self)
        self._usage.release()
        if self._ending is not None:
            self._ending.cancel()
        self._ending = None
        self._drop_parser()
        self._let_go(CloseCode.ABNORMAL_CLOSURE, "")

    def shutdown(self) -> None:
        """uvicorn ends: one last word, and no waiting for the client's."""
        if self._state == State.OPENING:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, b'{"error":"draining"}')
        self.close(protocol.CloseCode.RESTART, protocol.close_reason(protocol.jitter_ms(0, 2000)))
        self._transport.close()

    # ---- the application's side, for Session

    def accept(self, response: bytes) -> None:
        """Answer the handshake; then what came before the answer counts."""
        if self._state == State.OPENING and self._session is not None:
            self._state = State.OPEN
            self._transport.write(response)
            early, self._session.early = bytes(self._session.early), bytearray()
            if early:
                self.data_received(early)

    def refuse(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer the handshake with something else."""
        if self._state == State.OPENING:
            self._finish(refusal(status, body, headers))

    def returned(self) -> None:
        """The application's coroutine has returned: a follower, or nothing, keeps the socket alive."""
        self._session = None
        self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, b'{"error":"internal"}')
        if self._follower is None:
            self.close(CloseCode.INTERNAL_ERROR, "")

    # ---- inside

    def _parse(self, data: bytes) -> bool:
        """Act on some bytes; False if none may follow."""
        incoming = self._incoming = self._incoming or Incoming()
        messages = incoming.feed(data)
        self.credit -= FRAME_COST * incoming.frames
        reply = incoming.reply()
        if reply and not incoming.is_over:
            self.write(reply)
        for message in messages:
            if self._state == State.OPEN:
                self._pass_on(message)
        if incoming.is_over:
            self._finish(reply)
        if incoming.is_over or incoming.is_between:
            self._drop_parser()
        return not incoming.is_over

    def _drop_parser(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.drop()

    def _pass_on(self, message: dict[str, Any]) -> None:
        if self._follower is not None:
            self._follower.heard(self._socket, message)
        elif self._session is not None:
            self._session.queue.put_nowait(message)

    def _is_flooded(self) -> bool:
        if self.credit >= 0:
            return False
        if self._state == State.OPEN:
            self._finish(
                frames.close_frame(protocol.CloseCode.TOO_MANY, protocol.close_reason(protocol.jitter_ms(1000, 5000)))
            )
        else:
            self.abort()
        return True

    def _begin_end(self, last: bytes) -> None:
        self._transport.write(last)
        self._ending = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)

    def _finish(self, last: bytes) -> None:
        """Nothing more is said or listened to: the client closes, or is cut."""
        if self._state in (State.OPENING, State.OPEN):
            self._begin_end(last)
        self._state = State.OVER
        self.credit = LINGER
        with contextlib.suppress(OSError):  # the client may be gone already
            self._transport.write_eof()
        self._let_go(CloseCode.NO_STATUS_RCVD, "")

    def _let_go(self, code: int, reason: str) -> None:
        if self._session is not None:
            self._session.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.gone(self._socket)
            del self._socket  # it refers to us: nobody has to look for the circle


class Session:
    """The application's side of a socket (ASGI), for as long as its coroutine runs."""

    def __init__(self, push: PushProtocol, config: Config, app_state: dict[str, Any]) -> None:
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.early = bytearray()
        self._push = push
        self._config = config
        self._app_state = app_state
        self._accept = b""
        self._is_connected = False
        self._denial: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._body = b""

    async def run(self, head: RequestHead) -> None:
        """Call the application; whatever it does, the socket learns that it has returned."""
        self._accept = head.acceptance()
        scope = head.scope(self._app_state)
        scope["state"]["sink"] = self._push
        try:
            await self._config.loaded_app(scope, self.receive, self.send)
        except Exception:
            log.exception("the application failed")
        finally:
            self._push.returned()

    async def receive(self) -> dict[str, Any]:
        """ASGI receive."""
        if not self._is_connected:
            self._is_connected = True
            return {"type": "websocket.connect"}
        return await self.queue.get()

    async def send(self, message: dict[str, Any]) -> None:
        """ASGI send, without websocket.send: frames go to the sink."""
        headers = list(message.get("headers", []))
        match message["type"]:
            case "websocket.accept":
                if message.get("subprotocol"):
                    headers.append((b"Sec-WebSocket-Protocol", message["subprotocol"].encode()))
                lines = b"".join(b"%s: %s\r\n" % header for header in headers)
                self._push.accept(self._accept + lines + b"\r\n")
            case "websocket.close":
                self._push.refuse(HTTPStatus.FORBIDDEN, b'{"error":"refused"}')
                self._push.close(message.get("code", CloseCode.NORMAL_CLOSURE), message.get("reason") or "")
            case "websocket.http.response.start":
                self._denial = (message["status"], headers)
            case "websocket.http.response.body" if self._denial is not None:
                self._body += message.get("body", b"")
                if not message.get("more_body"):
                    self._push.refuse(self._denial[0], self._body, self._denial[1])
            case other:
                raise RuntimeError(f"{other}: this socket is written to through its sink")
