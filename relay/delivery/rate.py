"""A token bucket per user for everything that ends in a query: joining, sync, auth, GET /events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

BURST = 60  # questions at once: all sockets of a user join, and each asks again
RATE = 5.0  # questions a second, lastingly
SPAN = BURST / RATE  # seconds until an empty bucket is full again


class UserRate:
    """One number per user: the time at which its bucket is full. A full bucket needs no entry.

    An entry is full after SPAN at the latest. Two dictionaries are exchanged every SPAN seconds, so that memory is
    bounded by the users that asked in the last 2 * SPAN seconds, whether they are connected or not.
    """

    def __init__(self) -> None:
        self._full_at: dict[UUID, float] = {}
        self._before: dict[UUID, float] = {}
        self._exchange_at = 0.0

    def take(self, user: UUID, now: float) -> float:
        """Take one token. Returns 0, or the seconds until there is one. now: loop time."""
        if now >= self._exchange_at:
            self._before = self._full_at if now < self._exchange_at + SPAN else {}
            self._full_at = {}
            self._exchange_at = now + SPAN
        full_at = max(now, self._full_at.get(user) or self._before.get(user, now)) + 1 / RATE
        if full_at - now > SPAN:
            return full_at - now - SPAN
        self._full_at[user] = full_at
        return 0.0
