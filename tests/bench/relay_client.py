"""The load client of the relay's bench: raw sockets and epoll in one process, so cheap that it measures the server."""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
)
IN_FLIGHT = 256  # handshakes at a time
PONG = b"\x8a\x80abcd"


@dataclass
class Swarm:
    """Many clients of one server. speaks: "ws", or "socket.io" (its own handshake on top)."""

    port: int
    speaks: str = "ws"
    sockets: dict[int, socket.socket] = field(default_factory=dict)
    users: dict[int, int] = field(default_factory=dict)
    strays: int = 0

    def __post_init__(self) -> None:
        self._poll = select.epoll()
        self._recv: dict[int, Callable[[int], bytes]] = {}  # made once: for 10,000 it takes half a millisecond

    def connect(self, paths: list[str], extras: list[str] | None = None, until: bytes = b"") -> float:
        """Open one connection for each path; seconds from the first SYN until the last is greeted."""
        began = time.monotonic()
        waiting: dict[int, tuple[int, bytes]] = {}
        number, wanted = len(self.sockets), len(self.sockets) + len(paths)
        offset = number
        while number < wanted or waiting:
            while number < wanted and len(waiting) < IN_FLIGHT:
                one = socket.create_connection(("127.0.0.1", self.port))
                one.setblocking(False)
                extra = extras[number - offset] if extras else ""
                one.send(HANDSHAKE.format(path=paths[number - offset], extra=extra).encode())
                self._poll.register(one, select.EPOLLIN)
                self.sockets[one.fileno()] = one
                self._recv[one.fileno()] = one.recv
                self.users[one.fileno()] = number
                waiting[one.fileno()] = (0, b"")
                number += 1
            for descriptor, _events in self._poll.poll(5):
                if descriptor in waiting:
                    stage, got = waiting[descriptor]
                    got += self.sockets[descriptor].recv(65536)
                    if b"\r\n\r\n" not in got:
                        continue
                    if not got.startswith(b"HTTP/1.1 101"):
                        raise RuntimeError(got.decode("latin-1"))
                    if self.speaks == "socket.io" and stage == 0 and b'0{"sid"' in got:
                        self.sockets[descriptor].send(b"\x81\x82\0\0\0\x0040")
                        waiting[descriptor] = (1, got)
                    elif self.speaks == "socket.io":
                        waiting[descriptor] = (stage, got)
                        if b"40{" in got:
                            del waiting[descriptor]
                    elif until in got:
                        del waiting[descriptor]
                    else:
                        waiting[descriptor] = (0, got)
        return time.monotonic() - began

    def collect(self, count: int, marker: bytes, seconds: float = 60) -> list[float]:
        """The instants at which `count` frames with the marker came."""
        instants: list[float] = []
        deadline = time.monotonic() + seconds
        recv = self._recv
        while len(instants) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(instants)} of {count} frames")
            for descriptor, _events in self._poll.poll(1, 4096):
                data = recv[descriptor](65536)
                now = time.monotonic()
                found = data.count(marker)
                if found:
                    instants += [now] * found
                else:
                    self.strays += 1
                if not data:
                    raise RuntimeError("a client was closed")
                if data[0] == 0x89:
                    self.sockets[descriptor].send(PONG)
        return instants

    def last(self, descriptor: int) -> bytes:
        """What one client has received since."""
        return self.sockets[descriptor].recv(65536)

    def close(self) -> None:
        """Leave, abruptly."""
        for one in self.sockets.values():
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST: no TIME_WAIT behind us
            one.close()
        self._poll.close()
