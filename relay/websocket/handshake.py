"""A connection's first bytes: one HTTP head, whole, in time and within limits, or an answer that says why not.

Then it is somebody else's: the WebSocket protocol's if it is a good handshake, uvicorn's own for plain HTTP. No
byte that came with the head is lost, and no handshake is left without an answer.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import json
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.h11_impl import H11Protocol

from relay.frames import retry
from relay.websocket.limits import Crowded

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from relay.admin.health import Metrics
    from relay.websocket.limits import Crowd, Place

HEAD_SECONDS = 5.0  # from connection to a whole head
PLAIN_SECONDS = 30.0  # that a connection for plain HTTP may live: nobody slow keeps it for ever
MAX_HEAD, MAX_LINE, MAX_HEADERS = 16 * 1024, 8000, 100  # within what the parsers behind us take
LINGER_SECONDS, LINGER = 2.0, 256 * 1024  # after a refusal: closing on unread bytes would destroy it
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3

log = logging.getLogger("relay.arrivals")


class Unfit(Exception):
    """Not a request that can be served: status, a word for it, headers that belong to the answer."""

    def __init__(self, status: int, reason: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


class Head:
    """A request's head. httptools calls the on_… methods; the rest is for the WebSocket protocols."""

    accept = b""  # the answer that accepts it, up to where more headers may follow
    client: tuple[str, int]
    place: Place

    def __init__(self, raw: bytes, rest: bytes) -> None:
        self.raw, self.rest = raw, rest
        self.headers: list[tuple[bytes, bytes]] = []
        self._values: dict[bytes, list[bytes]] = {}
        self.target = b""
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(raw)
            self.is_upgrade = False
        except httptools.HttpParserUpgrade:
            self.is_upgrade = b"websocket" in [value.lower() for value in self.all(b"upgrade")]
        except httptools.HttpParserError:
            raise Unfit(HTTPStatus.BAD_REQUEST, "bad_request") from None
        self.method, self.version = parser.get_method(), parser.get_http_version()
        longest = max((len(name) + len(value) for name, value in self.headers), default=0)
        if len(self.headers) > MAX_HEADERS or longest > MAX_LINE:
            raise Unfit(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers")
        if len(self.target) > MAX_LINE:
            raise Unfit(HTTPStatus.REQUEST_URI_TOO_LONG, "target")

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.headers.append((name, value))
        self._values.setdefault(name, []).append(value)

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header."""
        return self._values.get(name, [])

    def check_handshake(self) -> None:
        """RFC 6455, 4.2.1, and what an origin or a token sent twice could hide. Raises Unfit."""
        if self.method != b"GET":
            raise Unfit(HTTPStatus.METHOD_NOT_ALLOWED, "method", (b"Allow", b"GET"))
        if self.version != "1.1":
            raise Unfit(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "http_version")
        if self.all(b"sec-websocket-version") != [b"13"]:
            raise Unfit(HTTPStatus.UPGRADE_REQUIRED, "version", *UPGRADE)
        keys = self.all(b"sec-websocket-key")
        if len(keys) != 1 or not is_key(keys[0]):
            raise Unfit(HTTPStatus.BAD_REQUEST, "key")
        if len(self.all(b"host")) != 1 or any(len(self.all(name)) > 1 for name in (b"origin", b"authorization")):
            raise Unfit(HTTPStatus.BAD_REQUEST, "headers")
        if self.all(b"transfer-encoding") or any(value != b"0" for value in self.all(b"content-length")):
            raise Unfit(HTTPStatus.BAD_REQUEST, "body")
        if not self.target.isascii():
            raise Unfit(HTTPStatus.BAD_REQUEST, "target")
        digest = base64.b64encode(hashlib.sha1(keys[0] + GUID, usedforsecurity=False).digest())
        self.accept = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + digest + b"\r\n"
        )

    def scope(self, state: dict[str, Any]) -> dict[str, Any]:
        """The ASGI scope of the handshake."""
        path, _, query = self.target.partition(b"?")
        offered = b",".join(self.all(b"sec-websocket-protocol")).decode("latin-1")
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "server": None,
            "client": self.client,
            "root_path": "",
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "headers": self.headers,
            "subprotocols": [name.strip() for name in offered.split(",") if name.strip()],
            "state": state.copy(),
            "extensions": {"websocket.http.response": {}},
        }


UPGRADE = ((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13"))


class Arrival(asyncio.Protocol):
    """uvicorn's Config(http=…) for the public address: what every connection is at first."""

    def __init__(
        self,
        crowd: Crowd,
        metrics: Metrics,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._crowd, self._metrics = crowd, metrics
        self._config, self._server_state, self._app_state = config, server_state, app_state
        self._bytes = bytearray()
        self._ignored: int | None = None  # bytes since the refusal
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server_state.connections.add(self)  # type: ignore[arg-type] # uvicorn's own kinds only, it thinks
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._is_late)
        if len(self._server_state.connections) > self._crowd.capacity:
            self._refuse(Unfit(HTTPStatus.SERVICE_UNAVAILABLE, "full"), 10_000)

    def data_received(self, data: bytes) -> None:
        if self._ignored is not None:
            self._ignored += len(data)
            if self._ignored > LINGER:
                self._transport.abort()
            return
        self._bytes = (self._bytes + data).lstrip(b"\r\n")  # RFC 9112, 2.2: empty lines before a request
        end = self._bytes.find(b"\r\n\r\n")
        try:
            if end >= 0 or len(self._bytes) > MAX_HEAD:
                self._pass_on(end + 4)
        except Unfit as unfit:
            self._refuse(unfit)
        except Crowded as crowded:
            self._refuse(Unfit(HTTPStatus.SERVICE_UNAVAILABLE, crowded.reason), crowded.retry_ms)

    def _pass_on(self, size: int) -> None:
        if not 4 <= size <= MAX_HEAD:
            raise Unfit(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers")
        head = Head(bytes(self._bytes[:size]), bytes(self._bytes[size:]))
        if head.is_upgrade:
            head.check_handshake()
            peer = self._transport.get_extra_info("peername")
            address = self._crowd.client(peer[0], head.all(b"x-forwarded-for"))
            head.client = (address, peer[1] if address == peer[0] else 0)
            head.place = self._crowd.enter(address, time.monotonic())
        self._leave()
        if head.is_upgrade:
            socket = cast("Any", self._config.ws_protocol_class)(
                config=self._config, server_state=self._server_state, app_state=self._app_state
            )
            socket.arrive(self._transport, head)
        else:
            plain = Plain(self._config, self._server_state, self._app_state)
            self._transport.set_protocol(plain)
            plain.connection_made(self._transport)
            plain.data_received(bytes(self._bytes))

    def _is_late(self) -> None:
        if self._ignored is None and self._bytes:
            self._refuse(Unfit(HTTPStatus.REQUEST_TIMEOUT, "late"))
        else:
            self._transport.abort()

    def _refuse(self, unfit: Unfit, retry_ms: int | None = None) -> None:
        self._metrics.refused.labels(unfit.reason).inc()
        headers = list(unfit.headers)
        body = {"error": unfit.reason}
        if retry_ms is not None:
            headers.append((b"Retry-After", str(-(-retry_ms // 1000)).encode()))
            body |= json.loads(retry(retry_ms))
        self._ignored = 0
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.abort)
        self._transport.write(refusal(unfit.status, json.dumps(body).encode(), headers))
        with contextlib.suppress(OSError):  # the client may be gone already
            self._transport.write_eof()

    def _leave(self) -> None:
        self._timer.cancel()
        self._server_state.connections.discard(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def shutdown(self) -> None:
        """uvicorn ends."""
        self._transport.close()


class Plain(H11Protocol):
    """uvicorn's HTTP, with an end: a client that sends its second request byte by byte would stay for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._end = self.loop.call_later(PLAIN_SECONDS, transport.abort)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)


def is_key(key: bytes) -> bool:
    """True for 16 bytes in base64, as RFC 6455 wants a Sec-WebSocket-Key."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def refusal(status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> bytes:
    """A whole HTTP answer that ends the connection; JSON unless the headers say otherwise."""
    given = {name.lower(): (name, value) for name, value in headers or []}
    given.setdefault(b"content-type", (b"Content-Type", b"application/json"))
    given[b"content-length"] = (b"Content-Length", str(len(body)).encode())
    given[b"connection"] = (b"Connection", b"close")
    lines = b"".join(b"%s: %s\r\n" % header for header in given.values())
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, HTTPStatus(status).phrase.encode(), lines, body)
