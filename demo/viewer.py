"""One user's client in the story: prints each frame with its lateness, and resumes by cursor."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from demo.tokens import make_token

if TYPE_CHECKING:
    from demo.stage import Stage

WARNING, END = "after_hours:session_expiring", "after_hours:session_expired"
LEAD = timedelta(minutes=2)
PATIENCE = 5.0  # seconds beyond the due instant


@dataclass(frozen=True)
class Event:
    """An event as it arrived."""

    type: str
    id: str
    session_id: UUID
    deadline: datetime
    reason: str | None
    late: float  # ms between the instant it was due and its arrival here: both clocks are this machine's


class Viewer:
    """A client that speaks the protocol the way a page does: token and cursor in the first frame."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.user_id = uuid4()
        self.start = ""  # of the last hello: fresh, replayed or reset
        self.events: list[Event] = []
        self.started = datetime.min.replace(tzinfo=UTC)  # of the session: no warning is due before
        self._stage = stage
        self._name = name
        self._cursor: str | None = None
        self._news = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect and authenticate; resumes after the last frame handled, if there was one."""
        self._socket = await connect(self._stage.relay, subprotocols=[Subprotocol("after-hours.v1")])
        token = make_token(self._stage.secret, self.user_id)
        await self._socket.send(json.dumps({"type": "auth", "token": token, "after": self._cursor}))
        hello = json.loads(await asyncio.wait_for(self._socket.recv(), PATIENCE))
        self.start, self._cursor = hello["start"], hello["cursor"]
        self._stage.frame(self._name, "hello", self.start)
        self._reader = asyncio.create_task(self._read(self._socket))

    async def disconnect(self) -> None:
        """Drop the connection."""
        if self._socket is not None and self._reader is not None:
            await self._socket.close()
            await self._reader

    def count(self, kind: str) -> int:
        """How many events of this type have come."""
        return sum(event.type == kind for event in self.events)

    async def expect(self, kind: str, deadline: datetime) -> Event | None:
        """The event of this type for this deadline, once it is here; None some seconds after it was due."""
        due = deadline if kind == END else deadline - LEAD
        until = max(due, datetime.now(UTC)) + timedelta(seconds=PATIENCE)
        while True:
            self._news.clear()
            for event in self.events:
                # frames carry milliseconds, the database microseconds
                if event.type == kind and abs(event.deadline - deadline) < timedelta(milliseconds=1):
                    return event
            try:
                await asyncio.wait_for(self._news.wait(), (until - datetime.now(UTC)).total_seconds())
            except TimeoutError:
                return None

    async def _read(self, socket: ClientConnection) -> None:
        async for message in socket:
            self._handle(datetime.now(UTC), json.loads(message))

    def _handle(self, now: datetime, frame: dict[str, Any]) -> None:
        if frame["type"] in (WARNING, END):
            deadline = datetime.fromisoformat(frame["expiresAt"])
            due = deadline if frame["type"] == END else max(deadline - LEAD, self.started)
            late = (now - due).total_seconds() * 1000
            event = Event(
                frame["type"], frame["id"], UUID(frame["sessionId"]), deadline, frame.get("reason"), late
            )
            self.events.append(event)
            self._cursor = frame["cursor"]
            about = frame.get("reason") or f"{frame['minutesRemaining']} min left"
            self._stage.frame(self._name, event.type, f"{about}, {late:.1f} ms after it was due")
            self._news.set()
        elif frame["type"] != "ping":
            self._stage.frame(self._name, frame["type"], "")
