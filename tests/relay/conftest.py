"""Fixtures: relays in this process with real sockets and a real PostgreSQL, tokens, recording clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from relay.app import Relay
from relay.settings import Settings
from tests.helpers import PATIENCE, find_tool, wait_until
from tests.helpers import SECRET as SECRET
from tests.helpers import make_token as make_token

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Connection, Instance


@dataclass
class Peer:
    """A client that records every frame, and how the connection ended."""

    connection: ClientConnection
    frames: list[dict[str, Any]] = field(default_factory=list)
    closed: tuple[int, Any] | None = None

    async def read(self) -> None:
        """Read until the end."""
        try:
            while True:
                self.frames.append(json.loads(await self.connection.recv()))
        except ConnectionClosed as end:
            reason = end.rcvd.reason if end.rcvd else ""
            said = json.loads(reason) if reason.startswith("{") else reason or None
            self.closed = (end.rcvd.code if end.rcvd else 1006, said)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The frames of one type."""
        return [frame for frame in self.frames if frame["type"] == kind]

    @property
    def is_open(self) -> bool:
        """True until the connection is closed."""
        return self.closed is None

    @property
    def events(self) -> list[dict[str, Any]]:
        """The frames that are events."""
        return [frame for frame in self.frames if ":" in frame["type"]]

    async def until(self, is_so: Callable[[Peer], object], seconds: float = PATIENCE) -> None:
        """Wait until the condition holds for this client; a failure shows the frames received."""
        try:
            await wait_until(lambda: bool(is_so(self)), seconds)
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s; frames {self.frames}, closed {self.closed}") from None

    async def say(self, **message: Any) -> None:
        """Send a message of the protocol."""
        await self.connection.send(json.dumps(message))


@dataclass
class Running:
    """A relay that runs in this process."""

    relay: Relay
    task: asyncio.Task[None]

    @property
    def url(self) -> str:
        """The URL of its WebSocket."""
        assert self.relay.bind
        return f"ws://{self.relay.bind[0]}:{self.relay.bind[1]}/ws"

    def http(self, path: str, *, admin: bool = False) -> str:
        """A URL on its public or admin side."""
        address = self.relay.admin_bind if admin else self.relay.bind
        assert address
        return f"http://{address[0]}:{address[1]}{path}"

    @asynccontextmanager
    async def peer(
        self, user: UUID, after: str | None = None, token: str | None = None, **more: Any
    ) -> AsyncIterator[Peer]:
        """A client of a user, after its hello or its close."""
        more.setdefault("additional_headers", {"Authorization": f"Bearer {token or make_token(user)}"})
        async with connect(
            self.url + (f"?after={after}" if after else ""), compression=None, ping_interval=None, **more
        ) as connection:
            peer = Peer(connection)
            reading = asyncio.create_task(peer.read())
            try:
                if more["additional_headers"]:
                    await peer.until(lambda it: it.frames or it.closed)
                yield peer
            finally:
                await connection.close()
                await reading

    async def stop(self) -> None:
        """Drain and stop."""
        self.relay.public.should_exit = True
        await self.task


StartRelay = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start_relay(instance: Instance, db: Connection) -> AsyncIterator[StartRelay]:
    """Factory of relays on the clean database; settings as keyword arguments. Waits until it is live."""
    running: list[Running] = []

    async def start(*, live: bool = True, **settings: Any) -> Running:
        values = {
            "dsn": instance.dsn("after_hours_relay"),
            "bind": "127.0.0.1:0",
            "admin_bind": "127.0.0.1:0",
            "node": f"test-{len(running)}",
            "jwt_secret": SECRET,
            "drain_seconds": 0.2,
            **settings,
        }
        relay = Relay(Settings(**values))
        one = Running(relay, asyncio.create_task(relay.serve()))
        running.append(one)
        await wait_until(lambda: relay.bind is not None)
        if live:
            await wait_until(lambda: relay.state.name == "live" and relay.state.mode == "notify")
        return one

    yield start
    for one in running:
        if not one.task.done():
            await one.stop()


@pytest.fixture
async def relay(start_relay: StartRelay) -> Running:
    """One relay, live."""
    return await start_relay()


@pytest.fixture
def user() -> UUID:
    """A random user id."""
    return uuid4()


@pytest.fixture(scope="session")
def nginx() -> Path:
    """The nginx binary."""
    return find_tool("nginx")


def expire(db: Connection, *users: UUID, announce: bool = True) -> None:
    """End a session of each user now, and announce it: one event each, in this order."""
    for user in users:
        db.execute(
            "insert into public.after_hours_sessions (user_id, started_at, expires_at)"
            " values (%s, now() - interval '1 hour', now() - interval '1 second')",
            (user,),
        )
    if announce:
        db.execute("select after_hours.announce_due()")


def warn(db: Connection, user: UUID, seconds: float = 60) -> UUID:
    """Start a session that ends so soon that its warning is due, and announce it. Returns the session's id."""
    row = db.execute(
        "insert into public.after_hours_sessions (user_id, expires_at)"
        " values (%s, now() + make_interval(secs => %s)) returning id",
        (user, seconds),
    ).fetchone()
    db.execute("select after_hours.announce_due()")
    assert row
    return UUID(str(row.id))


def cursors(db: Connection) -> list[str]:
    """The cursor of every event, in order."""
    rows = db.execute("select epoch || '-' || id as cursor from after_hours.events order by id").fetchall()
    return [row.cursor for row in rows]
