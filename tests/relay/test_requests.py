"""The parser of request heads, compared with h11, for both kinds of WebSocket."""

from __future__ import annotations

import asyncio
import string
from typing import TYPE_CHECKING, Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.websocket.kinds import KINDS
from relay.websocket.request import HandshakeError, RequestParser
from tests.relay.raw_client import KEY, TEXT, frame, handshake, layer, raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from relay.websocket.request import RequestHead
    from tests.relay.raw_client import Layer


@pytest.fixture(params=list(KINDS))
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Layer]:
    async with layer(request.param) as one:
        yield one


async def served(port: int) -> None:
    """Another client's handshake and first frame are answered within a second."""
    async with asyncio.timeout(1), raw(port, handshake()) as good:
        await good.send(frame(TEXT, b"hello"))
        assert await good.frames(1) == [(TEXT, b"hello")]


# ---- h11 as the oracle

NAMES = st.sampled_from(
    ["Host", "Upgrade", "Connection", "Origin", "Authorization", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
     "Sec-WebSocket-Protocol", "X-Forwarded-For", "Content-Length", "Transfer-Encoding", "X", "x-y", "!#$%&'*+-.^_`|~"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["websocket", "Upgrade", "WebSocket", "h2c", "keep-alive, upgrade", "h2c,websocket", "websocket , h2c", "13", "8",
     KEY.decode(), "http://a", "a:1", "0", "5", "chunked", "", ",", "a, b", "\xe9", "a b", "a\tb"]
) | st.text(string.printable.replace("\r", "").replace("\n", ""), max_size=12)  # fmt: skip
OWS = st.text(" \t", max_size=3)
LINES = st.tuples(NAMES | NAMES.map(str.lower) | NAMES.map(str.upper), OWS, WORDS, OWS).map(
    lambda it: f"{it[0]}:{it[1]}{it[2]}{it[3]}"
)
GOOD = [f"Sec-WebSocket-Key: {KEY.decode()}", "Sec-WebSocket-Version:13 ", "connection: x,\tUpgrade", "Host: a"]
FIELDS = st.lists(LINES, max_size=5) | st.lists(LINES, max_size=3).map(
    lambda lines: [*GOOD, "Upgrade: WebSocket\t", *lines]
)
METHODS = st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "CONNECT", "get", "G ET", ""])
TARGETS = st.sampled_from(
    [
        "/ws",
        "/ws?after=x",
        "/",
        "/%00?%ff",
        "http://host:8/ws?x",
        "HTTPS://h",
        "http://h?q",
        "*",
        "h:1",
        "/a b",
        "//a/b",
    ]
)
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", "RTSP/1.0", ""])


def ours(head: bytes, piece: int) -> RequestHead | HandshakeError:
    parser = RequestParser()
    try:
        for start in range(0, len(head), piece):
            parsed = parser.feed(head[start : start + piece])
        assert parsed is not None
        assert parsed[1] == b""
        parsed[0].check()
        if parsed[0].is_websocket:
            parsed[0].check_handshake()
    except HandshakeError as error:
        return error
    return parsed[0]


def h11s(head: bytes) -> h11.Request | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    assert isinstance(event, h11.Request)
    return event


@settings(max_examples=1500, deadline=None)
@given(METHODS, TARGETS, VERSIONS, FIELDS, st.integers(1, 400))
def test_a_head_is_accepted_exactly_if_h11_accepts_it(
    method: str, target: str, version: str, fields: list[str], piece: int
) -> None:
    head = "\r\n".join([f"{method} {target} {version}", *fields, "", ""]).encode("latin-1")
    mine, oracle = ours(head, piece), h11s(head)
    if isinstance(mine, HandshakeError):
        # What h11 accepts may be refused for a rule of ours, but not as invalid HTTP.
        has_body = any(line.lower().startswith(("content-length", "transfer-encoding")) for line in fields)
        known = not has_body and method.isupper() and version in ("HTTP/1.1", "HTTP/1.0") and target != "h:1"
        assert oracle is None or mine.reason != "bad_request" or not known
        assert 400 <= mine.status < 600
        return
    assert oracle is not None
    if target.startswith("/"):
        assert sorted(mine.headers) == sorted((name, value) for name, value in oracle.headers)
    else:  # an absolute target contains the host
        assert mine.all(b"host") == [target.split("/")[2].partition("?")[0].encode()]
        assert [pair for pair in mine.headers if pair[0] != b"host"] == [
            (name, value) for name, value in oracle.headers if name != b"host"
        ]
    assert oracle.method == mine.method
    assert mine.target.startswith(b"/")
    assert oracle.target.endswith(mine.target.removeprefix(b"/"))
    values = {name: b",".join(value for key, value in oracle.headers if key == name) for name, _ in oracle.headers}
    asked = [
        b"websocket" in [part.strip().lower() for part in values.get(b"upgrade", b"").split(b",")],
        b"upgrade" in [part.strip().lower() for part in values.get(b"connection", b"").split(b",")],
    ]
    assert mine.is_websocket is all(asked)


async def status_of(port: int, head: bytes) -> int:
    async with asyncio.timeout(5), raw(port) as client:
        await client.send(head)
        return (await client.answer())[0]


def test_both_kinds_of_sockets_give_the_same_answers() -> None:
    """uvicorn's own parser has no influence on the answer."""
    with asyncio.Runner() as runner:
        contexts = [layer(kind, max_handshakes=1e6) for kind in KINDS]
        ports = [runner.run(context.__aenter__()).port for context in contexts]

        @settings(max_examples=200, deadline=None)
        @given(TARGETS, st.lists(LINES, max_size=3))
        def run(target: str, lines: list[str]) -> None:
            fields = [*GOOD, "Upgrade: websocket", *lines]
            head = "\r\n".join([f"GET {target} HTTP/1.1", *fields, "", ""]).encode("latin-1")
            push, stock = (runner.run(status_of(port, head)) for port in ports)
            assert push == stock
            mine = ours(head, len(head))
            assert push == mine.status if isinstance(mine, HandshakeError) else push in (101, 404, 426)

        run()
        for context in contexts:
            runner.run(context.__aexit__(None, None, None))


# ---- on the wire: each form, both kinds of sockets

ABSOLUTE = "http://relay.example/ws"
FORMS: list[tuple[str, bytes, int]] = [
    ("a blank after Upgrade", handshake(upgrade="websocket "), 101),
    ("a tab after Upgrade", handshake(upgrade="websocket\t"), 101),
    ("blanks around Connection", handshake(connection=" \tUpgrade \t"), 101),
    ("a blank after the key", handshake(sec_websocket_key=KEY.decode() + " "), 101),
    ("a blank after the version", handshake(sec_websocket_version="13 \t"), 101),
    ("a blank after Origin", handshake(origin="http://127.0.0.1 "), 101),
    ("a list, ours first", handshake(upgrade="websocket, h2c"), 101),
    ("a list, ours last", handshake(upgrade="h2c,WebSocket"), 101),
    ("two lines", handshake(upgrade=["h2c", "websocket"]), 101),
    ("two lines, ours first", handshake(upgrade=["websocket", "h2c"]), 101),
    ("Connection in two lines", handshake(connection=["keep-alive", "upgrade"]), 101),
    ("absolute form", handshake(ABSOLUTE), 101),
    ("absolute form, upper case", handshake("HTTP://RELAY.example:80/ws?after=x"), 101),
    ("no subprotocol's name", handshake(sec_websocket_protocol="a b, ;, after-hours.v1,"), 101),
    ("no extension's name", handshake(sec_websocket_extensions=";=;"), 101),
    ("asterisk form", handshake("*"), 400),
    ("authority form", b"CONNECT relay:80 HTTP/1.1\r\nHost: relay:80\r\n\r\n", 400),
    ("another scheme", handshake("ftp://relay/ws"), 400),
    ("a user in the target", handshake("http://user@relay/ws"), 400),
    ("absolute form of another path", handshake("http://relay.example"), 404),
    ("a chunked body", handshake(transfer_encoding="chunked") + b"0\r\n\r\n", 400),
    ("plain with a body", b"POST /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", 400),
    ("plain, no host", b"GET /ws HTTP/1.1\r\n\r\n", 400),
    ("plain, two hosts", b"GET /ws HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("plain, two origins", b"GET /ws HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nOrigin: http://b\r\n\r\n", 400),
    ("plain, another method", b"POST /ws HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ("plain, another path", b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ("plain, HTTP/1.0 without Host", b"GET /ws HTTP/1.0\r\n\r\n", 426),
    ("plain, another upgrade", b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 426),
    ("HTTP/0.9", b"GET /ws\r\n\r\n", 505),
    ("HTTP/2.0", b"GET /ws HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    ("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("RTSP", b"GET /ws RTSP/1.0\r\nHost: x\r\n\r\n", 400),
    # No end of a head: answered at the first byte or line that can't be HTTP.
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("TLS's first byte", b"\x16", 400),
    ("PROXY", b"PROXY TCP4 1.2.3.4", 400),
    ("bare LF", b"GET /ws HTTP/1.1\nHost: x\n\n", 400),
    ("bare LF in a header", b"GET /ws HTTP/1.1\r\nHost: x\n", 400),
    ("a folded line", handshake()[:-2] + b"x: y\r\n z", 400),
    ("a method in lower case", b"get ", 400),
]


@pytest.mark.parametrize(("sent", "status"), [row[1:] for row in FORMS], ids=[row[0] for row in FORMS])
async def test_every_form_of_request_is_answered_at_once(wire: Layer, sent: bytes, status: int) -> None:
    async with asyncio.timeout(1), raw(wire.port) as client:
        await client.send(sent)
        got, headers = await client.answer()
        assert got == status
        if got == 101:
            await client.send(frame(TEXT, b"in"))
            assert await client.frames(1) == [(TEXT, b"in")]
        else:
            assert headers["connection"] == "close"
            await client.reader.read()  # to the end, which comes without our closing
    await served(wire.port)


async def test_a_refused_target_is_counted(wire: Layer) -> None:
    async with raw(wire.port) as client:
        await client.send(handshake("*"))
        status, headers = await client.answer()
        assert (status, await client.json(headers)) == (400, {"error": "target"})
    assert wire.metrics.refused.labels("target")._value.get() == 1


async def test_the_host_of_an_absolute_target_overrides_the_header(wire: Layer) -> None:
    async with raw(wire.port, handshake("http://relay.example:81/ws?after=1", host="evil.example")):
        pass
    async with raw(wire.port) as client:
        await client.send(handshake(ABSOLUTE, without="host"))
        assert (await client.answer())[0] == 400


# ---- one request, one answer, one connection

PLAIN = b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("second", [PLAIN, handshake(), PLAIN[:9]], ids=["plain", "handshake", "half"])
async def test_an_http_answer_closes_the_connection_with_connection_close(
    wire: Layer, second: bytes, later: bool
) -> None:
    async with asyncio.timeout(1), raw(wire.port) as client:
        await client.send(PLAIN if later else PLAIN + second)
        status, headers = await client.answer()
        assert (status, headers["connection"]) == (426, "close")
        assert (await client.json(headers)) == {"error": "not_a_websocket"}
        if later:
            await client.send(second)
        assert await client.reader.read() == b""
    await served(wire.port)


async def test_a_client_that_keeps_sending_after_the_answer_is_cut(wire: Layer) -> None:
    async with raw(wire.port) as client:
        await client.send(PLAIN)
        await client.answer()
        await client.send(b"x" * 16_000_000, 65536)  # ends early, or it would take longer than a test may
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.reader.readexactly(100)


async def test_the_answer_to_head_has_no_body(wire: Layer) -> None:
    async with asyncio.timeout(1), raw(wire.port) as client:
        await client.send(b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers = await client.answer()
        assert (status, int(headers["content-length"]) > 0) == (404, True)
        assert await client.reader.read() == b""


async def test_a_long_answer_waits_for_a_slow_client() -> None:
    """More than the kernel buffers: the application waits for the client, and no byte is lost."""
    size = 64 * 65536

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        for _ in range(64):
            await send({"type": "http.response.body", "body": b"z" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with layer("push", application=stream) as wire, raw(wire.port) as client:
        await client.send(PLAIN)
        status, headers = await client.answer()
        assert (status, headers["x"]) == (200, "y")
        await asyncio.sleep(0.1)
        assert len(await client.reader.read(-1)) == size


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_failing_application_is_answered_with_500_or_cut(
    has_begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        if has_begun:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("broken")

    async with layer("push", application=fail) as wire, asyncio.timeout(1), raw(wire.port) as client:
        await client.send(PLAIN)
        status, _headers = await client.answer()
        assert status == (200 if has_begun else 500)
        assert await client.reader.read() == (b"half" if has_begun else b'{"error":"internal"}')
    assert [record.name for record in caplog.records] == ["relay.plain"]


async def test_an_application_receives_the_disconnect_of_its_client() -> None:
    heard: list[str] = []

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            heard.append((await receive())["type"])

    async with layer("push", application=wait) as wire, raw(wire.port) as client:
        await client.send(PLAIN)
        await asyncio.sleep(0.05)
    assert heard == ["http.request", "http.disconnect"]


async def test_a_websocket_cannot_be_created_without_a_usage() -> None:
    for kind in KINDS.values():
        with pytest.raises(TypeError):
            kind()  # type: ignore[call-arg]
