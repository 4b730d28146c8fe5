"""What a client sends, as messages: websockets' sans-I/O parser, and when it can be thrown away again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from websockets.frames import CloseCode, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from relay.protocol import MAX_MESSAGE

if TYPE_CHECKING:
    from websockets.frames import Frame

log = logging.getLogger("relay.parser")
log.setLevel(logging.ERROR)  # at DEBUG the parser would write what clients send


class MessageParser:
    """The parser of one client, from its first byte to the end of a message."""

    __slots__ = ("_fed", "_kind", "_message", "_parsed", "_parser", "frames")

    def __init__(self) -> None:
        self._parser = ServerProtocol(state=OPEN, max_size=MAX_MESSAGE, logger=log)
        self._fed = self._parsed = 0
        self._kind: Opcode | None = None
        self._message = bytearray()
        self.frames = 0  # in the bytes fed last

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Parse some bytes into ASGI messages. What is to be answered is in reply()."""
        self._fed += len(data)
        self._parser.receive_data(data)
        events: list[Frame] = self._parser.events_received()  # type: ignore[assignment] # no handshake here
        self.frames = len(events)
        messages: list[dict[str, Any]] = []
        for frame in events:
            self._parsed += least_size(frame)
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                self._kind = frame.opcode
                self._message.clear()
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._message += frame.data
                if frame.fin:
                    message = self._finished()
                    if message is None:
                        break
                    messages.append(message)
        return messages

    def _finished(self) -> dict[str, Any] | None:
        kind, self._kind = self._kind, None
        data = bytes(self._message)
        if kind is Opcode.BINARY:
            return {"type": "websocket.receive", "bytes": data}
        try:
            return {"type": "websocket.receive", "text": data.decode()}
        except UnicodeDecodeError:
            self._parser.fail(CloseCode.INVALID_DATA, "not UTF-8")
            return None

    def reply(self) -> bytes:
        """What the parser wants sent: pongs, the answer to a close frame, the close frame after a fault."""
        return b"".join(self._parser.data_to_send())

    def drop(self) -> None:
        """End the parser's circles, so that it is freed at once: websockets 17's generator and error refer to it."""
        self._parser.parser.close()
        self._parser.parser_exc = None

    @property
    def is_over(self) -> bool:
        """The client has closed, or made a mistake."""
        return self._parser.state is not OPEN

    @property
    def is_idle(self) -> bool:
        """No frame is half-way and no message is: all that was fed is accounted for by what was parsed."""
        return self._fed == self._parsed and self._kind is None


def least_size(frame: Frame) -> int:
    """The bytes a masked frame takes on the wire at least; one in a longer form never counts too much."""
    size = len(frame.data)
    return size + (6 if size < 126 else 8)  # MAX_MESSAGE needs no 64-bit length


def is_pong(data: bytes) -> bool:
    """Exactly one complete pong, which means nothing and is all that a quiet client ever sends (every 20 s)."""
    size = len(data) - 6
    return 0 <= size < 126 and data[0] == 0x8A and data[1] == 0x80 | size
