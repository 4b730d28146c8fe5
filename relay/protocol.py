"""The protocol after-hours.v1: its close codes, the relay's own messages, and reading a client's.

Events are not made here: their JSON text comes finished from PostgreSQL.
"""

from __future__ import annotations

import enum
import json
import random
from datetime import UTC, datetime
from typing import Any, Self

from relay.frames import text_frame

SUBPROTOCOL = "after-hours.v1"
MAX_REASON = 123  # bytes; RFC 6455, 5.5
MAX_FRAME = 4096  # bytes of a client's message; one with a token, which identity providers make long, may have more
MAX_TOKEN = 16 * 1024  # characters; one that is longer, but fits MAX_MESSAGE, is told so
MAX_MESSAGE = 2 * MAX_TOKEN  # bytes that are read of any message


class Action(enum.Enum):
    """What a client does after a close code; the text is that of docs/protocol.md."""

    RECONNECT = "come back, with back-off"
    FIX_THEN_RECONNECT = "fix the client; come back, with back-off"
    RENEW_TOKEN = "get a new token, come back once"  # noqa: S105
    WAIT = "not before `retryAfterMs`"
    STOP = "fix the client; do not come back"


class CloseCode(enum.IntEnum):
    """The one list of close codes: each with its meaning and the client's action.

    docs/protocol.md is generated from it. The codes below 4000 are those of RFC 6455, 7.4.1, and of the IANA registry.
    """

    meaning: str
    action: Action

    def __new__(cls, code: int, meaning: str, action: Action) -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning, member.action = meaning, action
        return member

    GOING_AWAY = 1001, "an endpoint or a proxy is going away", Action.RECONNECT
    PROTOCOL_ERROR = 1002, "not a good WebSocket frame", Action.FIX_THEN_RECONNECT
    LOST = 1006, "the connection is lost; never sent", Action.RECONNECT
    NOT_UTF8 = 1007, "a text that is not UTF-8", Action.FIX_THEN_RECONNECT
    TOO_BIG = 1009, "a message over 4 KiB (`auth`: 32 KiB)", Action.FIX_THEN_RECONNECT
    FAILED = 1011, "the relay failed", Action.RECONNECT
    RESTART = 1012, "the relay is restarting", Action.RECONNECT
    TRY_LATER = 1013, "can't be served now", Action.RECONNECT
    DRAINED = 4000, "drained", Action.RECONNECT
    TOO_SLOW = 4008, "you read too slowly", Action.RECONNECT
    TOO_MANY = 4029, "too many connections or frames", Action.RECONNECT
    BAD_FRAME = 4400, "not a frame of this protocol, or a token over 16 KiB", Action.STOP
    TOKEN = 4401, "token not accepted, or no longer", Action.RENEW_TOKEN
    BLOCKED = 4403, "blocked by a moderator", Action.WAIT
    NO_AUTH = 4408, "no token within 5 s", Action.RECONNECT


def action_for(code: int) -> Action:
    """What a client does after a close code; RECONNECT for one that it does not know."""
    return next((known.action for known in CloseCode if known == code), Action.RECONNECT)


class BadFrame(Exception):
    """What the other side sent is not a message of the protocol."""

    code = CloseCode.BAD_FRAME


class TooBig(BadFrame):
    """A message that is too long, and brings no token."""

    code = CloseCode.TOO_BIG


def parse(message: dict[str, Any]) -> dict[str, Any]:
    """The JSON object in a received ASGI message: `type` is a text. Raises BadFrame."""
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


def parse_client(message: dict[str, Any]) -> dict[str, Any]:
    """parse(), for what clients send: MAX_FRAME for all but tokens. Raises BadFrame."""
    is_long = len((message.get("text") or "").encode()) > MAX_FRAME
    try:
        parsed = parse(message)
    except BadFrame:
        if is_long:
            raise TooBig from None
        raise
    if is_long and parsed["type"] != "auth":
        raise TooBig
    return parsed


def message(kind: str, **fields: Any) -> bytes:
    """A framed message of the relay's own (types without a colon)."""
    return text_frame(json.dumps({"type": kind, **fields}, separators=(",", ":")))


def snapshot(kind: str, node: str, token_expires_at: float, state: str) -> bytes:
    """A framed hello, snapshot or reset: three fields spliced into the JSON text that relay_attach finished.

    token_expires_at: Unix time, s. state: a JSON object as text.
    """
    start = f'{{"type":"{kind}","node":{json.dumps(node)},"tokenExpiresAt":"{format_instant(token_expires_at)}",'
    return text_frame(start + state[1:])


def format_instant(seconds: float) -> str:
    """A Unix time in s as the protocol writes instants: ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def close_reason(retry_ms: int, **details: str) -> str:
    """The reason of a close frame: when to come back, and details if there is room for them."""
    reason = json.dumps({"retryAfterMs": retry_ms, **details}, separators=(",", ":"))
    return reason if len(reason) <= MAX_REASON else close_reason(retry_ms)


def jitter_ms(low: int, high: int) -> int:
    """A random delay in ms from low to high, so that many clients do not come back at once."""
    return random.randint(low, high)  # noqa: S311 - not a secret
