"""Helpers shared by all tests: free ports, waiting for a condition, tokens. Has no fixtures; those are in conftest.py."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import jwt
import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

REPO = Path(__file__).resolve().parent.parent
SECRET = "development-only-" + "s" * 32  # of the relays that tests start
# Below the ephemeral range of Linux (32768-60999): no outgoing connection can take a port before its server has started.
PORTS = range(15_000, 32_000)

TOOLS = REPO / ".local" / "tools" / "usr"  # where ./dev test unpacks programs
# Instants of tokens. Constants, not offsets from now: a parametrized offset is computed when the file is collected.
LONG_AGO, FAR_AHEAD = 1_000_000_000, 4_000_000_000  # 2001 and 2096

# Seconds after which a wait for an event gives up. No claim: how fast something is, no test says. Beside other load on
# the machine everything takes longer; a shorter bound is given only where a test tells two mechanisms apart by it.
PATIENCE = 30.0

T = TypeVar("T")
_given: set[int] = set()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on and that this process has not returned before."""
    while True:
        port = secrets.choice(PORTS)  # `random` is seeded by Hypothesis: the same ports in parallel processes
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def find_tool(name: str) -> Path:
    """The path of a program that ./dev test installs or unpacks. Fails the test if it is missing."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:{TOOLS}/bin:{TOOLS}/sbin")
    if found is None:
        pytest.fail(f"{name} is missing: run ./dev test once, which fetches it")
    return Path(found)


def open_to_others(directory: Path) -> None:
    """Let other users, as whom servers run, enter a directory of pytest's, which makes them for one user only."""
    temporary = Path(tempfile.gettempdir()).resolve()
    for path in (directory, *directory.parents):
        if temporary in path.parents:
            path.chmod(0o755)


def make_token(user: UUID | str, *, secret: str = SECRET, **claims: Any) -> str:
    """Return a valid token for a user. `claims` replace its claims; None removes one."""
    now = time.time()
    parts = {"sub": str(user), "aud": "after-hours", "iat": now, "exp": now + 3600, **claims}
    return jwt.encode({name: value for name, value in parts.items() if value is not None}, secret, "HS256")


async def wait_until(
    condition: Callable[[], object | Awaitable[object]], seconds: float = PATIENCE, *, interval: float = 0.005
) -> None:
    """Wait until a condition, which may be a coroutine function, is true. Raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if await result if isinstance(result, asyncio.Future) or asyncio.iscoroutine(result) else result:
                return
            await asyncio.sleep(interval)


def poll_until(condition: Callable[[], T], seconds: float = PATIENCE, *, interval: float = 0.02, what: str = "") -> T:
    """Call a condition until its result is true, and return the result. Raises TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what or condition}")
        time.sleep(interval)
    return result
