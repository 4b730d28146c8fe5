"""The token bucket algorithm: a rate limit that allows bursts."""

from __future__ import annotations


class TokenBucket:
    """`size` tokens at once, `rate` a second afterwards. `now` is monotonic time in s."""

    __slots__ = ("_at", "_left", "_rate", "_size")

    def __init__(self, rate: float, size: float) -> None:
        self._rate, self._size, self._left, self._at = rate, size, size, 0.0

    def take(self, now: float) -> bool:
        """Take one token; False if there is none."""
        self._left = min(self._size, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def wait(self, now: float) -> float:
        """Seconds until there is a token."""
        return max(0.0, (1 - self._left) / self._rate - (now - self._at))

    def is_full(self, now: float) -> bool:
        """True if a new bucket would be the same, so that this one need not be kept."""
        return self._left + (now - self._at) * self._rate >= self._size
