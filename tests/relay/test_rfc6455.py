"""RFC 6455 from a raw socket: one row for each thing a client may send, for both kinds of WebSocket."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from relay.protocol import MAX_MESSAGE
from relay.websocket.kinds import KINDS
from tests.helpers import wait_until
from tests.relay.raw_client import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Layer,
    close,
    frame,
    handshake,
    layer,
    raw,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

END = close(1000)
CLOSED = (CLOSE, struct.pack("!H", 1000))
FIT, EURO = b"x" * MAX_MESSAGE, "€".encode()
Row = tuple[str, bytes, list[Any]]


@pytest.fixture(params=list(KINDS))
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Layer]:
    async with layer(request.param) as one:
        yield one


def said(text: str | bytes) -> tuple[int, bytes]:
    return TEXT, text if isinstance(text, bytes) else text.encode()


# Section, what is sent, what comes back; a number is the code of the close frame with which the connection fails.
GOOD: list[Row] = [
    ("5.6 text", frame(TEXT, b"abc") + END, [said("abc"), CLOSED]),
    ("5.6 empty text", frame(TEXT) + END, [said(""), CLOSED]),
    ("5.6 binary", frame(BINARY, b"\x00\xff") + END, [said("binary 2"), CLOSED]),
    ("5.2 the longest 7-bit length", frame(TEXT, b"x" * 125) + END, [said("x" * 125), CLOSED]),
    ("5.2 the shortest 16-bit length", frame(TEXT, b"x" * 126) + END, [said("x" * 126), CLOSED]),
    ("5.2 the longest message", frame(TEXT, FIT) + END, [said(FIT), CLOSED]),
    ("5.3 the mask 0000", frame(TEXT, b"abc", mask=b"\0\0\0\0") + END, [said("abc"), CLOSED]),
    ("5.4 two fragments", frame(TEXT, b"a", fin=False) + frame(CONT, b"b") + END, [said("ab"), CLOSED]),
    (
        "5.4 fragments as long as allowed",
        frame(TEXT, FIT[:2000], fin=False) + frame(CONT, FIT[:2000], fin=False) + frame(CONT, FIT[4000:]) + END,
        [said(FIT), CLOSED],
    ),
    (
        "5.4 empty fragments",
        frame(TEXT, fin=False) + frame(CONT, fin=False) * 5 + frame(CONT, b"x") + END,
        [said("x"), CLOSED],
    ),
    (
        "5.4 a ping inside a message",
        frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(CONT, b"b") + END,
        [(PONG, b"p"), said("ab"), CLOSED],
    ),
    (
        "5.4 a pong inside a message",
        frame(TEXT, b"a", fin=False) + frame(PONG, b"p") + frame(CONT, b"b") + END,
        [said("ab"), CLOSED],
    ),
    ("5.5.2 ping", frame(PING) + END, [(PONG, b""), CLOSED]),
    ("5.5.2 ping with 125 bytes", frame(PING, b"\xfe" * 125) + END, [(PONG, b"\xfe" * 125), CLOSED]),
    ("5.5.2 three pings", frame(PING, b"1") + frame(PING, b"2") + frame(PING, b"3") + END,
     [(PONG, b"1"), (PONG, b"2"), (PONG, b"3"), CLOSED]),
    ("5.5.3 unsolicited pongs", frame(PONG) + frame(PONG, b"x" * 125) + END, [CLOSED]),
    ("5.5.1 close without a code", close(), [(CLOSE, b"")]),
    ("5.5.1 close with code and reason", close(1001, b"bye"), [(CLOSE, b"\x03\xe9bye")]),
    ("5.5.1 nothing counts after a close", close(1000) + frame(TEXT, b"late") + frame(PING), [CLOSED]),
    ("7.4.2 a library's code", close(3000), [(CLOSE, struct.pack("!H", 3000))]),
    ("7.4.2 a private code", close(4999), [(CLOSE, struct.pack("!H", 4999))]),
    ("8.1 UTF-8 split between fragments",
     frame(TEXT, EURO[:1], fin=False) + frame(CONT, EURO[1:2], fin=False) + frame(CONT, EURO[2:]) + END,
     [said("€"), CLOSED]),
    ("8.1 the last code point", frame(TEXT, "\U0010ffff".encode()) + END, [said("\U0010ffff"), CLOSED]),
]  # fmt: skip

BAD: list[Row] = [
    ("5.1 unmasked", frame(TEXT, b"abc", mask=None), [1002]),
    ("5.1 an unmasked close", frame(CLOSE, b"\x03\xe8", mask=None), [1002]),
    *[(f"5.2 reserved bit {bit}", frame(TEXT, b"x", rsv=bit), [1002]) for bit in (1, 2, 4, 7)],
    *[(f"5.2 reserved opcode {code:x}", frame(code, b"x"), [1002]) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
    ("5.2 more than a message may have", frame(TEXT, FIT + b"x"), [1009]),
    ("5.2 a length that is never sent", b"\x81\xfe\xff\xff" + b"abcd", [1009]),
    ("5.2 a length of 63 bits", b"\x81\xff\x7f" + b"\xff" * 7 + b"abcd", [1009]),
    ("5.4 a message too long in all", frame(TEXT, FIT, fin=False) + frame(CONT, b"x"), [1009]),
    ("5.4 a continuation of nothing", frame(CONT, b"x"), [1002]),
    ("5.4 a continuation after the end",
     frame(TEXT, b"a", fin=False) + frame(CONT, b"b") + frame(CONT, b"c"), [1002]),
    ("5.4 a message inside a message", frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), [1002]),
    ("5.4 a binary message inside a text", frame(TEXT, b"a", fin=False) + frame(BINARY, b"b", fin=False), [1002]),
    ("5.5 a fragmented ping", frame(PING, b"p", fin=False), [1002]),
    ("5.5 a fragmented close", frame(CLOSE, b"\x03\xe8", fin=False), [1002]),
    ("5.5 a ping of 126 bytes", frame(PING, b"x" * 126), [1002]),
    ("5.5.1 half a code", frame(CLOSE, b"\x03"), [1002]),
    *[(f"7.4 code {code}", close(code), [1002]) for code in (0, 999, 1004, 1005, 1006, 1015, 1100, 2999, 5000, 65535)],
    ("5.5.1 a reason that is not UTF-8", close(1000, b"\xff"), [1007]),
    ("8.1 not UTF-8", frame(TEXT, b"\xff\xfe"), [1007]),
    ("8.1 cut off", frame(TEXT, EURO[:2]), [1007]),
    ("8.1 overlong", frame(TEXT, b"\xc0\xaf"), [1007]),
    ("8.1 a surrogate", frame(TEXT, b"\xed\xa0\x80"), [1007]),
    ("8.1 beyond the last code point", frame(TEXT, b"\xf4\x90\x80\x80"), [1007]),
    ("8.1 wrong in a later fragment", frame(TEXT, EURO[:1], fin=False) + frame(CONT, b"x"), [1007]),
    ("8.1 a text after a wrong one", frame(TEXT, b"\xff") + frame(TEXT, b"x"), [1007]),
]  # fmt: skip


@pytest.mark.parametrize("piece", [None, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(("sent", "expected"), [row[1:] for row in GOOD + BAD], ids=[row[0] for row in GOOD + BAD])
async def test_each_frame_has_the_answer_of_the_rfc(
    wire: Layer, sent: bytes, expected: list[Any], piece: int | None
) -> None:
    if piece and len(sent) > 600:
        pytest.skip("long, and in pieces it tests nothing more")
    async with raw(wire.port, handshake()) as client:
        if isinstance(expected[-1], int):
            await client.send(sent, piece)
            got = await client.frames()
            if piece and wire.kind == "stock" and not got:
                return  # it closes with unread bytes, and the kernel's reset discards what was sent
            assert (got[-1][0], struct.unpack("!H", got[-1][1][:2])) == (CLOSE, tuple(expected))
        else:  # close after the answers: stock sends nothing after it has read a close frame
            await client.send(sent.removesuffix(END), piece)
            got = await client.frames(len(expected) - 1)
            await client.send(END if sent.endswith(END) else b"", piece)
            got += await client.frames()
            assert got == expected or (piece and wire.kind == "stock" and got == expected[:-1])
    await wait_until(lambda: wire.gone == 1)


async def test_frames_sent_with_the_handshake_are_read(wire: Layer) -> None:
    async with raw(wire.port, handshake() + frame(TEXT, b"early") + frame(PING, b"e")) as client:
        assert sorted(await client.frames(2)) == [said("early"), (PONG, b"e")]


async def test_half_a_frame_sent_with_the_handshake_is_kept(wire: Layer) -> None:
    early = frame(TEXT, b"early")
    async with raw(wire.port, handshake() + early[:4]) as client:
        await client.send(early[4:])
        assert await client.frames(1) == [said("early")]


async def test_after_the_relays_close_frame_messages_are_dropped_until_the_answer(wire: Layer) -> None:
    async with raw(wire.port, handshake()) as client:
        await client.send(frame(TEXT, b"a"))
        assert await client.frames(1) == [said("a")]
        wire.transports[0].close(4000, "{}")
        await client.send(frame(TEXT, b"b") + close(4000))
        assert await client.frames() == [(CLOSE, b"\x0f\xa0{}")]
        assert not wire.transports[0].write(b"\x81\x00")


# ---- the handshake

OFFER = "a, after-hours.v1 ,b"
HANDSHAKES: list[tuple[str, bytes, int, dict[str, str | None]]] = [
    ("4.2.2 the RFC's example", handshake(), 101, {
        "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "upgrade": "websocket", "connection": "Upgrade",
        "sec-websocket-protocol": None, "sec-websocket-extensions": None,
    }),
    ("4.2.1 any case", handshake(upgrade="WebSocket", connection="keep-alive, upgrade"), 101, {}),
    ("4.2.2 our subprotocol", handshake(sec_websocket_protocol=OFFER), 101,
     {"sec-websocket-protocol": "after-hours.v1"}),
    ("4.1 subprotocols in two headers", handshake(sec_websocket_protocol=["a", "after-hours.v1"]), 101,
     {"sec-websocket-protocol": "after-hours.v1"}),
    ("4.2.2 others' subprotocols", handshake(sec_websocket_protocol="a, b"), 101, {"sec-websocket-protocol": None}),
    ("9.1 extensions are declined", handshake(sec_websocket_extensions="permessage-deflate; server_max_window_bits=10"),
     101, {"sec-websocket-extensions": None}),
    ("4.4 another version", handshake(sec_websocket_version="8"), 426, {"sec-websocket-version": "13"}),
    ("4.4 no version", handshake(without="sec-websocket-version"), 426, {"sec-websocket-version": "13"}),
    ("4.4 two versions", handshake(sec_websocket_version=["13", "8"]), 426, {"sec-websocket-version": "13"}),
    ("4.2.1 no key", handshake(without="sec-websocket-key"), 400, {}),
    ("4.2.1 a short key", handshake(sec_websocket_key="c2hvcnQ="), 400, {}),
    ("4.2.1 a key not in base64", handshake(sec_websocket_key="*" * 24), 400, {}),
    ("4.2.1 two keys", handshake(sec_websocket_key=["dGhlIHNhbXBsZSBub25jZQ=="] * 2), 400, {}),
    ("4.2.1 no host", handshake(without="host"), 400, {}),
    ("4.2.1 no upgrade", handshake(without="upgrade"), 426, {"upgrade": "websocket"}),
    ("4.2.1 no connection", handshake(without="connection"), 426, {"upgrade": "websocket"}),
    ("4.2.1 another upgrade", handshake(upgrade="h2c"), 426, {"upgrade": "websocket"}),
    ("4.2.1 another method", handshake().replace(b"GET", b"POST"), 405, {"allow": "GET"}),
    ("4.2.1 HTTP/1.0", handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), 505, {}),
    ("a body", handshake(content_length="5") + b"12345", 400, {}),
    ("two origins", handshake(origin=["http://a", "http://b"]), 400, {}),
    ("another path", handshake("/other"), 404, {}),
    ("a header line of 7 KiB", handshake(x="x" * 7000), 101, {}),
    ("a header line of 9 KiB", handshake(x="x" * 9000), 431, {}),
    ("a header line of 17 KiB", handshake(x="x" * 17000), 431, {}),
    ("a head that does not end", handshake()[:-2] + b"x" * 20000, 431, {}),
    ("101 headers", handshake(x=["y"] * 101), 431, {}),
    ("a target of 9 KiB", handshake("/ws?" + "x" * 9000), 414, {}),
    ("a target that is not ASCII", handshake("/ws?\xe9"), 400, {}),
    ("a line that is no header", handshake()[:-2] + b"nonsense\r\n\r\n", 400, {}),
    ("a space before the colon", handshake()[:-2] + b"x : y\r\n\r\n", 400, {}),
    ("a folded header", handshake()[:-2] + b"x: y\r\n z\r\n\r\n", 400, {}),
    ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, {}),
    ("empty lines first", b"\r\n\r\n" + handshake(), 101, {}),
]  # fmt: skip


@pytest.mark.parametrize("piece", [None, 7], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    ("sent", "status", "headers"), [row[1:] for row in HANDSHAKES], ids=[row[0] for row in HANDSHAKES]
)
async def test_each_handshake_has_the_answer_of_the_rfc(
    wire: Layer, sent: bytes, status: int, headers: dict[str, str | None], piece: int | None
) -> None:
    async with raw(wire.port) as client:
        await client.send(sent, piece if len(sent) < 2000 else None)
        got, given = await client.answer()
        assert (got, {name: given.get(name) for name in headers}) == (status, headers)
        if status != 101:
            assert (await client.json(given))["error"]
