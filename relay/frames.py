"""Frames as bytes and as text: the relay's own messages, built once; events come finished from PostgreSQL."""

from __future__ import annotations

import json
import random
import struct
from datetime import UTC, datetime
from typing import Any

PING = b"\x89\x00"
SUBPROTOCOL = "after-hours.v1"

GOING_AWAY, FAILED, TRY_LATER, RESTART = 1001, 1011, 1013, 1012
DRAINED, BAD_FRAME, TOKEN, BLOCKED, TOO_SLOW, TOO_MANY, NO_AUTH = 4000, 4400, 4401, 4403, 4008, 4029, 4408


class BadFrame(Exception):
    """What the client sent is not a message of the protocol."""


def text_frame(text: str) -> bytes:
    """One unfragmented, unmasked text frame, ready for the transport."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; the reason is at most 123 bytes."""
    said = reason.encode()
    return struct.pack("!BBH", 0x88, 2 + len(said), code) + said


def payload(frame: bytes) -> str:
    """The text of a frame that text_frame() made."""
    size = frame[1]
    return frame[2 if size < 126 else 4 if size == 126 else 10 :].decode()


def iso(seconds: float) -> str:
    """Seconds since 1970 as the protocol writes instants."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def snapshot(kind: str, node: str, token_expires_at: float, state: str) -> bytes:
    """hello, snapshot or reset: three fields spliced into the JSON text that relay_attach finished."""
    own_part = f'{{"type":"{kind}","node":{json.dumps(node)},"tokenExpiresAt":"{iso(token_expires_at)}",'
    return text_frame(own_part + state[1:])


def own(kind: str, **fields: Any) -> bytes:
    """A message of the relay's own (types without a colon)."""
    return text_frame(json.dumps({"type": kind, **fields}, separators=(",", ":")))


def retry(milliseconds: int) -> str:
    """The reason of a close frame: when to come back."""
    return f'{{"retryAfterMs":{milliseconds}}}'


def jittered(low: int, high: int) -> int:
    """Milliseconds to wait, spread so that many clients do not come back at once."""
    return random.randint(low, high)  # noqa: S311 - not a secret


def parse(message: dict[str, Any]) -> dict[str, Any]:
    """A received ASGI message as one of ours. Raises BadFrame."""
    text = message.get("text")
    if text is None:
        raise BadFrame("binary")
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        raise BadFrame("not JSON") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("type"), str):
        raise BadFrame("no type")
    return parsed
