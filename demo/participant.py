"""A user of the scenario: a relay client that prints each frame with its lateness and resumes by cursor."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from demo.event import END, LEAD, WARNING, Event
from demo.tokens import make_token
from relay.client import Client

if TYPE_CHECKING:
    from demo.console import Console

PATIENCE = 5.0  # s to wait after the due instant


class Participant:
    """A user with a client of the relay. Received events are printed and stored in `events`."""

    def __init__(self, console: Console, name: str) -> None:
        self.user_id = uuid4()
        self.start = ""  # `start` of the last hello: fresh, replayed or reset
        self.events: list[Event] = []
        self.started = datetime.min.replace(tzinfo=UTC)  # start of the session: no warning is due before it
        self._console = console
        self._name = name
        self._client = self._new_client(None)
        self._received = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect, and resume after the last handled frame if there is one. Raises TimeoutError."""
        self._received.clear()
        self._client = self._new_client(self._client.cursor)
        self._reading = asyncio.create_task(self._read(self._client))
        await asyncio.wait_for(self._received.wait(), PATIENCE)

    async def disconnect(self) -> None:
        """Close the connection."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def count(self, kind: str) -> int:
        """Return the number of received events of a type."""
        return sum(event.type == kind for event in self.events)

    async def expect(self, kind: str, deadline: datetime) -> Event | None:
        """Wait for the event of this type and deadline. Returns None PATIENCE seconds after it was due."""
        due = deadline if kind == END else deadline - LEAD
        until = max(due, datetime.now(UTC)) + timedelta(seconds=PATIENCE)
        while True:
            self._received.clear()
            for event in self.events:
                # frames carry milliseconds, the database microseconds
                if event.type == kind and abs(event.deadline - deadline) < timedelta(milliseconds=1):
                    return event
            try:
                await asyncio.wait_for(self._received.wait(), (until - datetime.now(UTC)).total_seconds())
            except TimeoutError:
                return None

    def _new_client(self, cursor: str | None) -> Client:
        def token() -> str:
            return make_token(self._console.secret, self.user_id)

        return Client(self._console.relay, token, cursor, all_frames=True)

    async def _read(self, client: Client) -> None:
        async for frame in client.frames():
            self._handle(datetime.now(UTC), frame)

    def _handle(self, now: datetime, frame: dict[str, Any]) -> None:
        if frame["type"] == "hello":
            self.start = frame["start"]
            self._console.frame(self._name, "hello", self.start)
        elif frame["type"] in (WARNING, END):
            deadline = datetime.fromisoformat(frame["expiresAt"])
            due = deadline if frame["type"] == END else max(deadline - LEAD, self.started)
            late = (now - due).total_seconds() * 1000
            event = Event(frame["type"], frame["id"], UUID(frame["sessionId"]), deadline, frame.get("reason"), late)
            self.events.append(event)
            detail = frame.get("reason") or f"{frame['minutesRemaining']} min left"
            self._console.frame(self._name, event.type, f"{detail}, {late:.1f} ms after it was due")
        elif frame["type"] != "ping":
            self._console.frame(self._name, frame["type"], "")
        self._received.set()
