"""A short seed of the fault matrix, and the checker against histories that are wrong. Long runs: ./dev soak."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.faults.history import Chain, History, check
from tests.faults.soak import BREACHES, Soak

USER = UUID(int=1)


@pytest.mark.timeout(180)
async def test_a_short_seed(capsys: pytest.CaptureFixture[str]) -> None:
    soak = Soak(20261124)
    totals, breaches = await soak.run(20, settle=15)
    assert breaches == []
    assert {name: totals.get(name, 0) for name in BREACHES} == dict.fromkeys(BREACHES, 0)
    assert totals["events"] > 300
    assert totals["warnings"] > 50
    assert sum(soak.history.faults.values()) >= 3


def instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Told:
    """A history of one client and the events that it should have got."""

    def __init__(self) -> None:
        self.now = time.time()
        self.history = History()
        self.chain = Chain(USER, "steady")
        self.history.chains.append(self.chain)
        self.rows: list[Any] = []

    def event(self, number: int, kind: str = "session_expired", ends: float = 0, at: float = 0) -> dict[str, Any]:
        session, uid = str(uuid4()), str(uuid4())
        self.history.owners[session] = USER
        frame = {
            "type": f"after_hours:{kind}", "id": uid, "cursor": f"aaaaaaaa-{number}", "sessionId": session,
            "expiresAt": instant(self.now + ends), "emittedAt": instant(self.now - 60),
        }  # fmt: skip
        self.rows.append({"user_id": USER, "type": frame["type"], "uid": uid, "session_id": session})
        self.chain.frames.append((self.now + at, frame))
        self.history.reads[frame["cursor"]] = [self.now - 1]
        return frame

    def totals(self) -> dict[str, int]:
        totals, breaches = check(self.history, self.rows, 0)
        assert len(breaches) == sum(totals.get(name, 0) for name in BREACHES)
        return {name: totals[name] for name in BREACHES if totals.get(name)}


def test_a_good_history_has_no_breach() -> None:
    told = Told()
    for number in range(1, 4):
        told.event(number)
    told.event(4, "session_expiring", ends=60)
    assert told.totals() == {}


def test_each_breach_is_found() -> None:
    told = Told()
    told.event(1)
    told.chain.frames.pop()
    assert told.totals() == {"lost": 1}

    told = Told()
    told.chain.frames.append((told.now, told.event(1)))
    assert told.totals() == {"duplicated": 1}

    told = Told()
    told.event(2)
    told.event(1)
    assert told.totals() == {"reordered": 1}

    told = Told()
    told.history.owners[told.event(1)["sessionId"]] = UUID(int=2)
    assert told.totals() == {"misdelivered": 1}

    told = Told()
    told.event(1, "session_expiring", ends=-2)
    assert told.totals() == {"out of date": 1}
    told.history.reads["aaaaaaaa-1"] = [told.now - 3]
    assert told.totals() == {}, "read in time and handed over late"
    told.history.reads["aaaaaaaa-1"] = [told.now - 3, told.now - 1.5]
    assert told.totals() == {"out of date": 1}, "the last read before it came is the one that counts"
    told.history.reads.clear()
    assert told.totals() == {"unread": 1}

    told = Told()
    warning = told.event(1, "session_expiring", ends=60)
    told.history.moves.append((warning["sessionId"], told.now - 0.5, told.now + 90))
    assert told.totals() == {}, "acknowledged after it had been read"
    told.history.moves.append((warning["sessionId"], told.now - 5, told.now + 90))
    told.history.moves.reverse()
    assert told.totals() == {"out of date": 1}
    told.history.moves.append((warning["sessionId"], told.now, told.now + 60))
    assert told.totals() == {}, "moved to where the warning says, acknowledged later"
    told.history.moves.pop()
    told.history.failovers.append(told.now - 4)
    assert told.totals() == {}, "the move may have been lost with the old primary"


def test_a_snapshot_tells_as_well_but_only_if_it_is_one() -> None:
    for start, lost in (("reset", {}), ("fresh", {}), ("replayed", {"lost": 1})):
        told = Told()
        session = told.event(1)["sessionId"]
        told.chain.frames[:] = [
            (told.now, {"type": "hello", "start": start, "sessions": [{"sessionId": session, "state": "ended"}]})
        ]
        assert told.totals() == lost
