"""What happened, and what must hold of it: lost = duplicated = misdelivered = reordered = out of date = 0.

Out of date is exact: a warning is wrong if the call that read it began after its deadline had passed, or after the
change that moved the deadline had been acknowledged. How late a busy machine hands it over does not count.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

LAG = 10.0  # seconds before a failover whose commits the standby may not have had: it reconnects after 5


@dataclass
class Chain:
    """The connections of one client, one after the other, each resumed with the cursor of the last."""

    user: UUID
    kind: str
    frames: list[tuple[float, dict[str, Any]]] = field(default_factory=list)


@dataclass
class History:
    """Everything that is written down while the matrix runs. Instants are seconds since 1970."""

    chains: list[Chain] = field(default_factory=list)
    owners: dict[str, UUID] = field(default_factory=dict)
    moves: list[tuple[str, float, float]] = field(default_factory=list)  # session, acknowledged when, its new deadline
    unknown: set[str] = field(default_factory=set)  # sessions whose last change may or may not have been committed
    failovers: list[float] = field(default_factory=list)
    reads: dict[str, list[float]] = field(default_factory=dict)  # when the calls began that read a cursor's event
    faults: Counter[str] = field(default_factory=Counter)


def seconds(instant: str) -> float:
    return datetime.fromisoformat(instant.replace("Z", "+00:00")).timestamp()


def same(deadline: float, instant: str) -> bool:
    """The protocol cuts milliseconds."""
    return abs(deadline - seconds(instant)) < 0.002


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
    moves: dict[str, list[tuple[float, float]]] = {}
    for session, at, deadline in history.moves:
        moves.setdefault(session, []).append((at, deadline))
        if any(failed - LAG <= at <= failed for failed in history.failovers):
            history.unknown.add(session)  # the standby may not have had it
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
            if frame["type"] == "after_hours:session_expiring":
                read = max((one for one in history.reads.get(frame["cursor"], ()) if one <= at), default=None)
                if read is None:
                    breach("unread", f"{name}: no relay has recorded reading {frame}")
                    continue
                changes = moves.get(frame["sessionId"], []) if frame["sessionId"] not in history.unknown else []
                told = [number for number, (when, _) in enumerate(changes) if when < read]
                if told and not any(same(deadline, frame["expiresAt"]) for _, deadline in changes[told[-1] :]):
                    since = read - changes[told[-1]][0]
                    breach("out of date", f"{name}: moved {since:.3f} s before it was read: {frame}")
                if seconds(frame["expiresAt"]) < read - 0.001:  # the frame's instants are cut to milliseconds
                    breach("out of date", f"{name}: passed before it was read at {read}: {frame}")
        for row in by_user.get(chain.user, ()):
            if row["type"] != "after_hours:session_expired" or str(row["uid"]) in got:
                continue
            if str(row["session_id"]) in told_by_snapshot:
                totals["told by snapshot"] += 1
            else:
                breach("lost", f"{name}: {dict(row)}")
    return dict(totals), breaches
