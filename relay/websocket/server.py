"""uvicorn with a drain: at the end queued connections are accepted, all clients are drained, then closed.

uvicorn itself would close every connection at once, and the kernel resets what is queued at a closed listening
socket. Of two servers in a process one handles the signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import select
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from relay.logs import RateLimitedLogger
from relay.settings import split_address
from relay.websocket.flow_control import SEND_BUFFER
from relay.websocket.handshake import HandshakeProtocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import FrameType

QUEUE_SECONDS = 1.0  # for accepting what is queued, and for its handshakes
ACCEPTED_PER_TURN = 50  # connections; more would keep events waiting
BACKLOG = 2048  # of the kernel; uvicorn's own is how many are accepted in one turn of the loop

exhaustion_log = RateLimitedLogger(logging.getLogger("relay.server"), seconds=1.0)


class Server(uvicorn.Server):
    """The public server if it has a drain, the admin one if not."""

    def __init__(
        self, config: uvicorn.Config, drain: Callable[[Callable[[], bool]], Awaitable[None]] | None = None
    ) -> None:
        super().__init__(config)
        self._drain = drain

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals() if self._drain else contextlib.nullcontext():
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # the second signal ends it at once
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or []:
            listening.listen(BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._drain is not None:
            await self._accept_queued(sockets or [])
            for server in self.servers:
                server.close()
            await self._wait(
                lambda: not any(isinstance(one, HandshakeProtocol) for one in self.server_state.connections)
            )
            await self._drain(lambda: self.force_exit)
            await self._wait(lambda: not self.server_state.connections)
        await super().shutdown(sockets)

    def _has_handshakes(self) -> bool:
        return any(isinstance(one, HandshakeProtocol) for one in self.server_state.connections)

    async def _accept_queued(self, sockets: list[socket.socket]) -> None:
        poller = select.poll()
        for listening in sockets:
            poller.register(listening, select.POLLIN)
        await self._wait(lambda: not poller.poll(0))

    async def _wait(self, is_so: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + QUEUE_SECONDS
        # A signal handler may not set an asyncio.Event: look again and again.
        while not is_so() and loop.time() < deadline and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def listening_socket(address: str, *, reuse_port: bool = False) -> socket.socket:
    """A bound, listening socket whose clients spend little of the kernel's memory. Raises OSError."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=reuse_port)
    set_options(listening)
    return listening


def set_options(listening: socket.socket) -> None:
    """What the accepted sockets inherit from the listening one."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000)


def log_descriptor_exhaustion(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncio's exception handler: one line a second while accept() finds no file descriptor (asyncio tries again)."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        exhaustion_log.error("out of file descriptors, no connection is accepted", error=str(error))
    else:
        loop.default_exception_handler(context)
