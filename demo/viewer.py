"""One user's client in the story: prints each frame with its lateness, and resumes by cursor."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from demo.tokens import make_token
from relay.client import Client

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
    """A user at a client of the relay; what arrives is printed and kept in `events`."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.user_id = uuid4()
        self.start = ""  # of the last hello: fresh, replayed or reset
        self.events: list[Event] = []
        self.started = datetime.min.replace(tzinfo=UTC)  # of the session: no warning is due before
        self._stage = stage
        self._name = name
        self._client = self._new_client(None)
        self._news = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect; resumes after the last frame handled, if there was one. Raises TimeoutError."""
        self._news.clear()
        self._client = self._new_client(self._client.cursor)
        self._reading = asyncio.create_task(self._read(self._client))
        await asyncio.wait_for(self._news.wait(), PATIENCE)

    async def disconnect(self) -> None:
        """Drop the connection."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

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

    def _new_client(self, cursor: str | None) -> Client:
        def token() -> str:
            return make_token(self._stage.secret, self.user_id)

        return Client(self._stage.relay, token, cursor, all_frames=True)

    async def _read(self, client: Client) -> None:
        async for frame in client.frames():
            self._handle(datetime.now(UTC), frame)

    def _handle(self, now: datetime, frame: dict[str, Any]) -> None:
        if frame["type"] == "hello":
            self.start = frame["start"]
            self._stage.frame(self._name, "hello", self.start)
        elif frame["type"] in (WARNING, END):
            deadline = datetime.fromisoformat(frame["expiresAt"])
            due = deadline if frame["type"] == END else max(deadline - LEAD, self.started)
            late = (now - due).total_seconds() * 1000
            event = Event(frame["type"], frame["id"], UUID(frame["sessionId"]), deadline, frame.get("reason"), late)
            self.events.append(event)
            about = frame.get("reason") or f"{frame['minutesRemaining']} min left"
            self._stage.frame(self._name, event.type, f"{about}, {late:.1f} ms after it was due")
        elif frame["type"] != "ping":
            self._stage.frame(self._name, frame["type"], "")
        self._news.set()
