"""The state of this relay: written by the listener, its probe and the drain, read by all rooms.

connecting --LISTEN--> catching up --read to the head--> live     in any of them: no read for STALE_SECONDS is "stale",
    ^                       |                             |       a relay that is stopping is "draining"
    +---- closed, silent for CALL_SECONDS, not a primary -+
"""

from __future__ import annotations

import asyncio

STATES = ("connecting", "catching up", "live", "stale", "draining")
FOLLOWING: dict[str | None, str] = {
    "notify": "following",
    None: "following; whether NOTIFY comes through is not known yet",
    "polling": "polling: the probe's NOTIFY does not come back (a transaction pooler in between?)",
}
POLLING = "polling every second: a transaction pooler is in between, LISTEN needs a connection past it"


class RelayState:
    """One relay's state, and why it is in it.

    phase: connecting, catching up or live. mode: how new events are noticed, "notify" or "polling"; None while that is
    not known. is_pooled: a transaction pooler is in between, so that LISTEN does not work. probe_seconds: the last
    round trip of the probe's NOTIFY. problem: why it is not live. fault: which calls the database answers with errors.
    keys_problem: why no token can be verified yet. changed: set at each change of which the database is to be told at
    once.
    """

    def __init__(self) -> None:
        self.phase = "connecting"
        self.mode: str | None = None
        self.is_pooled = False
        self.is_stale = False
        self.is_draining = False
        self.probe_seconds: float | None = None
        self.problem = "not connected yet"
        self.fault: str | None = None
        self.keys_problem: str | None = None
        self.changed = asyncio.Event()

    @property
    def name(self) -> str:
        """One of STATES."""
        if self.is_draining:
            return "draining"
        return "stale" if self.is_stale else self.phase

    @property
    def reason(self) -> str:
        """Why it is in this state, in words."""
        if self.is_draining:
            return "told to stop"
        if self.fault is not None:
            return self.fault
        if self.name != "live":
            return self.problem
        return self.keys_problem or (POLLING if self.is_pooled else FOLLOWING[self.mode])
