"""What happened, and what must hold of it: lost = duplicated = misdelivered = reordered = out of date = 0."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

MARGIN = 1.0  # seconds between a relay's read and our clock's reading when the frame is handled
LAG = 3.0  # seconds before a failover whose commits the standby may not have had


@dataclass
class Chain:
    """One client's life: its connections, one after the other, each going on from where the last ended."""

    user: UUID
    kind: str
    frames: list[tuple[float, dict[str, Any]]] = field(default_factory=list)


@dataclass
class History:
    """Everything that is written down while the matrix runs. Instants are seconds since 1970."""

    chains: list[Chain] = field(default_factory=list)
    owners: dict[str, UUID] = field(default_factory=dict)
    moves: list[tuple[str, float]] = field(default_factory=list)  # session, when its new deadline had committed
    failovers: list[float] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)  # a relay stopped, or we: what was read comes late
    faults: Counter[str] = field(default_factory=Counter)

    def is_paused(self, at: float) -> bool:
        return any(start <= at <= end + MARGIN for start, end in self.pauses)


def seconds(instant: str) -> float:
    return datetime.fromisoformat(instant.replace("Z", "+00:00")).timestamp()


def is_event(frame: dict[str, Any]) -> bool:
    return ":" in frame["type"]


def check(history: History, events: list[Any], unannounced: int) -> tuple[dict[str, int], list[str]]:
    """Totals, and a line for each breach. events: the rows of after_hours.events of the server that is left."""
    totals: Counter[str] = Counter()
    breaches: list[str] = []

    def breach(kind: str, text: str) -> None:
        totals[kind] += 1
        breaches.append(f"{kind}: {text}")

    by_user: dict[UUID, list[Any]] = {}
    for row in events:
        by_user.setdefault(row["user_id"], []).append(row)
    moves: dict[str, list[float]] = {}
    for session, at in history.moves:
        if not any(at <= failed <= at + LAG or failed - LAG <= at <= failed for failed in history.failovers):
            moves.setdefault(session, []).append(at)
    totals["unannounced"] = unannounced
    totals["event rows"] = len(events)
    for chain in history.chains:
        name = f"{chain.kind} {chain.user}"
        got: set[str] = set()
        told_by_snapshot: set[str] = set()
        seen: set[str] = set()
        last: dict[str, int] = {}
        for at, frame in chain.frames:
            totals["frames"] += 1
            if not is_event(frame):
                totals[frame["type"]] += 1
                if frame.get("start") in ("fresh", "reset") or frame["type"] == "snapshot":
                    ended = [one["sessionId"] for one in frame["sessions"] if one["state"] == "ended"]
                    told_by_snapshot |= set(ended)
                for one in frame.get("sessions", ()):
                    if history.owners.get(one["sessionId"]) != chain.user:
                        breach("misdelivered", f"{name}: {one} in {frame['type']}")
                continue
            totals["events"] += 1
            totals["warnings"] += frame["type"] == "after_hours:session_expiring"
            if history.owners.get(frame["sessionId"]) != chain.user:
                breach("misdelivered", f"{name}: {frame}")
            epoch, _, number = frame["cursor"].partition("-")
            if frame["cursor"] in seen or frame["id"] in got:
                breach("duplicated", f"{name}: {frame}")
            elif int(number) <= last.get(epoch, -1):
                breach("reordered", f"{name}: {frame} after {last[epoch]}")
            seen.add(frame["cursor"])
            got.add(frame["id"])
            last[epoch] = max(int(number), last.get(epoch, -1))
            if frame["type"] == "after_hours:session_expiring" and not history.is_paused(at):
                if at > seconds(frame["expiresAt"]) + MARGIN:
                    breach("out of date", f"{name}: passed {at - seconds(frame['expiresAt']):.2f} s before: {frame}")
                emitted = seconds(frame["emittedAt"])
                moved = [when for when in moves.get(frame["sessionId"], ()) if emitted < when < at - MARGIN]
                if moved:
                    breach("out of date", f"{name}: moved {at - moved[0]:.2f} s before: {frame}")
        for row in by_user.get(chain.user, ()):
            if row["type"] != "after_hours:session_expired" or str(row["uid"]) in got:
                continue
            if str(row["session_id"]) in told_by_snapshot:
                totals["told by snapshot"] += 1
            else:
                breach("lost", f"{name}: {dict(row)}")
    return dict(totals), breaches
