"""python -m relay, with a line on stderr for each call that read events: when it began, and their cursors.

For the checker of the fault matrix. The line is written before any client can have the events.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING
from unittest.mock import patch

from relay.commands import main
from relay.database import listener
from relay.database.session import DatabaseSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.records import AttachRequest, AttachResult, Cursor, Event, Page


def record(started: float, events: list[Event]) -> None:
    """Write the line, if any event was read."""
    if events:
        line = {"event": "read", "started": started, "cursors": [event.cursor for event in events]}
        print(json.dumps(line), file=sys.stderr, flush=True)


class RecordingSession(DatabaseSession):
    """Records what relay_events and relay_attach answer."""

    async def read(self, cursor: Cursor | None) -> Page:
        started = time.time()
        page = await super().read(cursor)
        record(started, page.events)
        return page

    async def attach(self, requests: Sequence[AttachRequest]) -> list[AttachResult]:
        started = time.time()
        results = await super().attach(requests)
        record(started, [event for result in results for event in result.events])
        return results


if __name__ == "__main__":
    with patch.object(listener, "DatabaseSession", RecordingSession):
        main(["serve"])
