"""Plain HTTP: one answer, an ASGI application's or a refusal, on a connection that ends with it.

Nothing on the public address needs a second request on a connection. What a client sends after its request is read
and dropped for a while: closing on unread bytes would make the kernel destroy the answer. An answer that is a stream of
events goes on in EventStreamProtocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from relay.websocket.request import answer_head, refusal
from relay.websocket.stream import EventStreamProtocol

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from relay.websocket.limits import AddressUsage
    from relay.websocket.request import RequestHead

LINGER_SECONDS, LINGER = 2.0, 256 * 1024  # after a refusal; bytes that are dropped
READ_SECONDS = 30.0  # after an answer, for a client that reads it slowly

log = logging.getLogger("relay.plain")


class PlainHTTPProtocol(asyncio.Protocol):
    """One connection, from a complete request that is no handshake, or can't be served, to its end."""

    def __init__(
        self,
        usage: AddressUsage,
        transport: asyncio.Transport,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        self._usage, self._transport = usage, transport
        self._config, self._server_state, self._app_state = config, server_state, app_state
        self._dropped = 0
        self._method = b""
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None  # of an answer that has no body yet
        self._has_answered = False
        self._is_asked = False
        self._is_stream = False
        self._is_gone = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._timer: asyncio.TimerHandle | None = None
        server_state.connections.add(self)  # type: ignore[arg-type] # uvicorn's own kinds only, it thinks
        transport.set_protocol(self)

    def start(self, head: RequestHead, rest: bytes) -> None:
        """Call the application for a request."""
        self._method = head.method
        self._dropped = len(rest)
        scope = head.scope(self._app_state)
        scope["state"]["stream"] = self.stream
        task = asyncio.get_running_loop().create_task(self._run(scope))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    def stream(self, headers: list[tuple[bytes, bytes]]) -> EventStreamProtocol:
        """Answer with a stream of events, with these headers too; what the application sends doesn't count any more."""
        self._is_stream = True
        stream = EventStreamProtocol(self._usage, self._transport, self._server_state, headers)
        if not self._transport.is_closing():  # or connection_lost() is called here, as for any other request
            self._server_state.connections.discard(self)
            stream.start()
        return stream

    def finish(self, last: bytes, seconds: float = LINGER_SECONDS) -> None:
        """Write the last bytes of the answer; the client has so many seconds to read it and close."""
        if self._timer is None:
            self._transport.write(last)
            with contextlib.suppress(OSError):  # the client may be gone already
                self._transport.write_eof()
            self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    # ---- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Drop what comes after the request."""
        self._dropped += len(data)
        if self._dropped > LINGER:
            self._transport.abort()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """The client has read."""
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after the connection closed, from either side."""
        if self._timer is not None:
            self._timer.cancel()
        self._is_gone.set()
        self._may_write.set()
        self._server_state.connections.discard(self)
        self._usage.release()

    def shutdown(self) -> None:
        """uvicorn ends: an answer that is under way is finished, and ends the connection by itself."""
        if self._timer is not None:
            self._transport.close()

    # ---- ASGI

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await self._config.loaded_app(scope, self._receive, self._send)
        except Exception:
            log.exception("the application failed")
        if self._is_stream:
            return
        if self._has_answered:
            self.finish(b"")
        else:
            self.finish(refusal(HTTPStatus.INTERNAL_SERVER_ERROR, b'{"error":"internal"}'))

    async def _receive(self) -> dict[str, Any]:
        if not self._is_asked:
            self._is_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._is_gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if self._is_stream:
            return
        if message["type"] == "http.response.start":
            self._head = message["status"], [*self._server_state.default_headers, *message.get("headers", [])]
            return
        data = b"" if self._method == b"HEAD" else message.get("body", b"")
        if self._head is not None:
            data = answer_head(*self._head) + data
            self._head, self._has_answered = None, True
        if message.get("more_body"):
            self._transport.write(data)
            await self._may_write.wait()
        else:
            self.finish(data, READ_SECONDS)
