"""The two things systemd gives a service: a datagram socket for its state, and listening sockets that it opened."""

from __future__ import annotations

import os
import socket

FIRST = 3  # file descriptor of the first inherited socket: sd_listen_fds(3)


def notify(state: str) -> None:
    """Tell the service manager, e.g. READY=1: sd_notify(3). Does nothing without NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as messages:
            messages.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def inherited_socket() -> socket.socket | None:
    """The listening socket of a .socket unit, None without one. Raises OSError if there is more than one."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = int(os.environ.get("LISTEN_FDS", "0"))
    if count > 1:
        raise OSError(f"{count} sockets were passed to the relay; its .socket unit may have one ListenStream")
    return socket.socket(fileno=FIRST) if count else None
