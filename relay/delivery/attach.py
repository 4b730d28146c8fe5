"""Questions to relay_attach, in batches, one call at a time. An answer that doesn't fit any more is asked again.

It doesn't fit when it is of another generation (we have lost the connection or our place since) or of another life
(another server, another epoch) than the log that the hub follows: ids of two lives say nothing about each other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relay.records import Answer, Ask

MIN_BATCH, MAX_BATCH = 25, 500  # users in one call; fewer after each that failed, more after each that did not


class Asking:
    """The queue. `life` is the hub's; while it is None nobody knows where the log stands, and nothing is asked."""

    def __init__(self) -> None:
        self.life: str | None = None
        self.waiting: deque[Ask] = deque()
        self._generation = 0
        self._size = MAX_BATCH
        self._news = asyncio.Event()

    def put(self, ask: Ask) -> None:
        """Ask this with the next batch."""
        self.waiting.append(ask)
        self._news.set()

    def void(self) -> None:
        """Answers that are still on their way count no more."""
        self._generation += 1

    def followed(self, life: str) -> None:
        """The log has been read, and this is the life it is in: what waited for that may be asked."""
        self.life = life
        if self.waiting:
            self._news.set()

    async def run(self, attach: Callable[[list[Ask]], Awaitable[list[Answer]]]) -> None:
        """Until the process ends. `attach` raises ConnectionError."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self.waiting and self.life is not None:
                if not await self._ask_some(attach):
                    break
                await asyncio.sleep(0)

    async def _ask_some(self, attach: Callable[[list[Ask]], Awaitable[list[Answer]]]) -> bool:
        """One batch. False: wait until the log has been read again."""
        batch = [self.waiting.popleft() for _ in range(min(self._size, len(self.waiting)))]
        generation = self._generation
        try:
            answers = await attach(batch)
        except ConnectionError:
            self.waiting.extendleft(reversed(batch))
            self._size = max(MIN_BATCH, self._size // 2)
            return False
        self._size = min(MAX_BATCH, self._size * 2)
        again = []
        for ask, answer in zip(batch, answers, strict=True):
            if generation == self._generation and answer.life == self.life:
                ask.answer(answer)
            else:
                again.append(ask)
        self.waiting.extendleft(reversed(again))
        # Of this generation and yet unfit: the answer is of a life that the log has still to tell us of.
        return not again or generation != self._generation
