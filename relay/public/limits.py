"""Limits on one user: the questions that it may make the relay ask the database, and its connections."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from relay.protocol import CloseCode, jitter_ms
from relay.token_bucket import TokenBucket

if TYPE_CHECKING:
    from uuid import UUID

    from relay.delivery.hub import Hub
    from relay.settings import Settings

QUESTION_RATE, QUESTION_BURST = 5.0, 60.0  # of one user: a second, at once (all connections of a user come back)
MAX_USERS = 50_000  # whose buckets are kept
FULL_MS = 5_000, 30_000  # after which a client comes back to a full relay
DISPLACED_MS = 20_000, 60_000  # and one that a newer connection has displaced: two tabs too many must not storm


class UserLimiter:
    """How often one user may make the relay ask the database: QUESTION_BURST at once, QUESTION_RATE a second."""

    def __init__(self) -> None:
        self._buckets: dict[UUID, TokenBucket] = {}
        self._swept_at = 0.0

    def retry_ms(self, user: UUID, now: float) -> int:
        """Take one question of a user's: 0, or the ms after which to come back. now: monotonic, s."""
        milliseconds = ceil(self.wait(user, now) * 1000)
        return jitter_ms(milliseconds, milliseconds + 3000) if milliseconds else 0

    def wait(self, user: UUID, now: float) -> float:
        """Take one question of a user's: 0.0, or the seconds until there is one. now: monotonic, s."""
        bucket = self._buckets.get(user)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[user] = TokenBucket(QUESTION_RATE, QUESTION_BURST)
        return 0.0 if bucket.take(now) else bucket.wait(now)

    def _make_room(self, now: float) -> None:
        """Keep at most MAX_USERS buckets: those in use; if that is too many, the newest."""
        if now - self._swept_at >= QUESTION_BURST / QUESTION_RATE:
            self._swept_at = now
            self._buckets = {user: bucket for user, bucket in self._buckets.items() if not bucket.is_full(now)}
        if len(self._buckets) >= MAX_USERS:
            del self._buckets[next(iter(self._buckets))]


def make_way(hub: Hub, settings: Settings, limiter: UserLimiter, user: UUID, now: float) -> tuple[str, int] | None:
    """Room for one more connection of a user: None, or why there is none and the ms after which to come back.

    At the limit of one user the newest wins. The oldest has often gone without a word (a phone from Wi-Fi to LTE),
    which only an unanswered ping would tell. now: monotonic, s.
    """
    mine = hub.users.get(user, [])
    is_at_limit = len(mine) >= settings.max_sockets_per_user
    if hub.count >= settings.max_sockets and not is_at_limit:
        return "too_many", jitter_ms(*FULL_MS)
    if wait := limiter.retry_ms(user, now):
        return "user_rate", wait
    if is_at_limit:
        hub.close(mine[0], CloseCode.TOO_MANY, jitter_ms(*DISPLACED_MS), reason="newer_connection")
    return None
