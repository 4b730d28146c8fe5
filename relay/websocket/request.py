"""The one parser of requests: a head as httptools (llhttp) reads it, and the checks that it must pass.

Whatever comes after it is given the parsed head, or one written anew from it, never the client's bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_HEAD, MAX_LINE, MAX_HEADERS = 16 * 1024, 8000, 100
LONG_TOKEN = re.compile(rb"\nauthorization:[^\r\n]{%d}" % MAX_LINE, re.IGNORECASE)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
UPGRADE = ((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13"))
ABSOLUTE = re.compile(rb"(?:http|ws)s?://([^/?#@]+)(/[^?]*)?(\?.*)?", re.IGNORECASE)
TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
WHITE = b" \t"  # RFC 9110, 5.6.3: around a value, and no part of it


class HandshakeError(Exception):
    """A request that can't be served: status, a word for it, headers that belong to the answer."""

    def __init__(self, status: int, reason: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


class RequestHead:
    """A request's head. httptools calls the on_… methods; client is set by whoever knows the connection."""

    client: tuple[str, int]

    def __init__(self) -> None:
        self.method = self.target = self.request_line = b""
        self.version = ""
        self.size = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._values: dict[bytes, list[bytes]] = {}
        self.is_complete = False
        self.is_websocket = False  # the client wants this connection to become one

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.strip(WHITE)
        self.headers.append((name, value))
        self._values.setdefault(name, []).append(value)

    def on_headers_complete(self) -> None:
        self.is_complete = True
        self.is_websocket = self.has_token(b"upgrade", b"websocket") and self.has_token(b"connection", b"upgrade")

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header."""
        return self._values.get(name, [])

    def has_token(self, name: bytes, token: bytes) -> bool:
        """True if a header whose value is a list, in one line or in several, has this element, in any case."""
        value = b",".join(self.all(name)).lower()
        return value == token or (b"," in value and token in [part.strip(WHITE) for part in value.split(b",")])

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers, without what is no name."""
        offered = b",".join(self.all(b"sec-websocket-protocol")).decode("latin-1")
        return [name for part in offered.split(",") if TOKEN.fullmatch(name := part.strip())] if offered else []

    def check(self) -> None:
        """What every request must be, and what an origin or a token sent twice could hide. Raises HandshakeError."""
        if self.size > MAX_LINE and (long := self._long_lines()):
            raise too_large(b"authorization" in long)
        if len(self.headers) > MAX_HEADERS:
            raise too_large()
        if len(self.target) > MAX_LINE:
            raise HandshakeError(HTTPStatus.REQUEST_URI_TOO_LONG, "target")
        if self.version not in ("1.0", "1.1"):
            raise HandshakeError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "http_version")
        if self.request_line != b"%s %s HTTP/%s" % (self.method, self.target, self.version.encode()):
            raise HandshakeError(HTTPStatus.BAD_REQUEST, "bad_request")  # llhttp takes RTSP, ICE and more blanks
        hosts = len(self.all(b"host"))
        if hosts > 1 or (not hosts and self.version == "1.1"):
            raise HandshakeError(HTTPStatus.BAD_REQUEST, "host")
        if len(self.all(b"origin")) > 1 or len(self.all(b"authorization")) > 1:
            raise HandshakeError(HTTPStatus.BAD_REQUEST, "headers")
        if self.all(b"transfer-encoding") or any(value != b"0" for value in self.all(b"content-length")):
            raise HandshakeError(HTTPStatus.BAD_REQUEST, "body")
        self._read_target()

    def _long_lines(self) -> set[bytes]:
        return {name for name, value in self.headers if len(name) + len(value) > MAX_LINE}

    def _read_target(self) -> None:
        """RFC 9112, 3.2: an absolute form is taken apart, and its host counts. Raises HandshakeError."""
        if not self.target.startswith(b"/"):
            absolute = ABSOLUTE.fullmatch(self.target)
            if absolute is None:
                raise HandshakeError(HTTPStatus.BAD_REQUEST, "target")
            host, path, query = absolute.groups(b"")
            self.target = (path or b"/") + query
            self._values[b"host"] = [host]
            self.headers = [*(pair for pair in self.headers if pair[0] != b"host"), (b"host", host)]
        if not self.target.isascii():
            raise HandshakeError(HTTPStatus.BAD_REQUEST, "target")

    def check_handshake(self) -> None:
        """RFC 6455, 4.2.1. Raises HandshakeError."""
        if self.method != b"GET":
            raise HandshakeError(HTTPStatus.METHOD_NOT_ALLOWED, "method", (b"Allow", b"GET"))
        if self.version != "1.1":
            raise HandshakeError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "http_version")
        if self.all(b"sec-websocket-version") != [b"13"]:
            raise HandshakeError(HTTPStatus.UPGRADE_REQUIRED, "version", *UPGRADE)
        keys = self.all(b"sec-websocket-key")
        if len(keys) != 1 or not is_key(keys[0]):
            raise HandshakeError(HTTPStatus.BAD_REQUEST, "key")

    def acceptance(self) -> bytes:
        """The answer that accepts a good handshake, up to where more headers may follow."""
        digest = hashlib.sha1(self.all(b"sec-websocket-key")[0] + GUID, usedforsecurity=False).digest()
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n"
        )

    def scope(self, state: dict[str, Any]) -> dict[str, Any]:
        """The ASGI scope of the request."""
        path, _, query = self.target.partition(b"?")
        scope: dict[str, Any] = {
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": self.version,
            "server": None,
            "client": self.client,
            "root_path": "",
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "headers": self.headers,
            "state": state.copy(),
        }
        if self.is_websocket:
            scope.update(type="websocket", scheme="ws", subprotocols=self.subprotocols)
            scope["extensions"] = {"websocket.http.response": {}}
        else:
            scope.update(type="http", scheme="http", method=self.method.decode())
        return scope


class RequestParser:
    """Parses one head, in whatever pieces it comes."""

    __slots__ = ("_bytes", "_head", "_parser", "_size")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._size = 0
        self._head = RequestHead()
        self._parser = httptools.HttpRequestParser(self._head)

    @property
    def has_begun(self) -> bool:
        """True if there is something of a request."""
        return bool(self._bytes)

    def feed(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Parse; returns the head and the bytes after it when it is complete.

        Raises HandshakeError at the first byte that can't be HTTP, without waiting for the rest.
        """
        self._size += len(data)
        start = len(self._bytes)
        self._bytes += data if start else data.lstrip(b"\r\n")  # RFC 9112, 2.2: empty lines before a request
        end = self._bytes.find(b"\r\n\r\n", max(0, start - 3)) + 4
        is_whole = end >= 4
        if (end if is_whole else self._size) > MAX_HEAD:
            raise too_large(LONG_TOKEN.search(self._bytes) is not None)
        try:
            self._parser.feed_data(bytes(self._bytes[start : end if is_whole else None]))
        except httptools.HttpParserUpgrade:
            pass  # whether it is one, and to what, the head says
        except httptools.HttpParserError:
            raise HandshakeError(HTTPStatus.BAD_REQUEST, "bad_request") from None
        if self._head.is_complete != is_whole:
            raise HandshakeError(HTTPStatus.BAD_REQUEST, "bad_request")
        if not is_whole:
            return None
        head = self._head
        head.method, head.version = self._parser.get_method(), self._parser.get_http_version()
        head.size = end
        head.request_line = bytes(self._bytes[: self._bytes.find(b"\r\n")])
        return head, bytes(self._bytes[end:])


def too_large(has_long_token: bool = False) -> HandshakeError:
    """A head that is not read; one with a long token is told that the first frame has room for it."""
    reason = "token_too_long_for_a_header" if has_long_token else "headers"
    return HandshakeError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)


def is_key(key: bytes) -> bool:
    """True for 16 bytes in base64, as RFC 6455 wants a Sec-WebSocket-Key."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def answer_head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head of an answer that ends the connection."""
    lines = b"".join(b"%s: %s\r\n" % pair for pair in headers if pair[0].lower() != b"connection")
    phrase = HTTPStatus(status).phrase.encode()
    return b"HTTP/1.1 %d %s\r\n%sConnection: close\r\n\r\n" % (status, phrase, lines)


def refusal(status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """A whole answer that ends the connection; JSON unless the headers say otherwise."""
    given = {name.lower(): (name, value) for name, value in headers}
    given.setdefault(b"content-type", (b"Content-Type", b"application/json"))
    given[b"content-length"] = (b"Content-Length", str(len(body)).encode())
    return answer_head(status, given.values()) + body
