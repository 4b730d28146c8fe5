"""Limits on what one client may leave unread and may send, and the write that keeps the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.protocol import CloseCode, close_reason, jitter_ms

if TYPE_CHECKING:
    import asyncio

    from relay.delivery.connection import Transport

SEND_BUFFER = 64 * 1024  # bytes the kernel keeps for one client
MAX_BUFFERED = 192 * 1024  # bytes that we keep; with SEND_BUFFER one client costs 256 KiB at most
CLOSE_SECONDS = 5.0  # how long a closing handshake may take
# What a client may send: a replay's 500 acknowledgements at once, then little. keepalive adds EARNED each second.
CREDIT, EARNED = 128 * 1024, 8 * 1024  # bytes
FRAME_COST = 64  # bytes that a frame counts for, beside its own


def write_or_close(writer: asyncio.Transport, transport: Transport, frame: bytes) -> bool:
    """Write a frame; False if the client has disconnected. Closes a client that has not read MAX_BUFFERED bytes.

    The close frame is queued behind the unread bytes: a client that reads on within CLOSE_SECONDS still receives it.
    """
    if writer.is_closing():
        return False
    if writer.get_write_buffer_size() + len(frame) > MAX_BUFFERED:
        transport.is_slow = True
        transport.close(CloseCode.TOO_SLOW, close_reason(jitter_ms(500, 3000)))
        return False
    writer.write(frame)
    return True
