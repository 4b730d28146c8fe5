"""WebSocket frames as bytes (RFC 6455, 5.2): unfragmented and unmasked, as a server sends them."""

from __future__ import annotations

import struct

PING = b"\x89\x00"


def text_frame(text: str) -> bytes:
    """One text frame, ready for the transport."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; the reason is at most 123 bytes of UTF-8 (RFC 6455, 5.5)."""
    data = reason.encode()
    return struct.pack("!BBH", 0x88, 2 + len(data), code) + data


def payload(frame: bytes) -> bytes:
    """The text, as UTF-8, of a frame that text_frame() made."""
    size = frame[1]
    return frame[2 if size < 126 else 4 if size == 126 else 10 :]
