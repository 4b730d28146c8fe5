"""Questions to relay_attach, in batches, one call at a time. A result that doesn't fit any more is asked for again.

It doesn't fit when it is of another generation (the connection or our place in the log was lost since) or of another
incarnation (another server, another epoch) than the log that the hub follows: ids of two say nothing about each other.

Whoever asks a question that is already waiting shares its result; not one that is already on its way to the database:
that one's snapshot may be older than the asker. A question is dropped when the last one that waits for it leaves.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from relay.delivery.connection import Connection
    from relay.records import AttachRequest, AttachResult

    Attach = Callable[[list[AttachRequest]], Awaitable[Sequence[AttachResult | None]]]
    Waiter = Connection | asyncio.Future[AttachResult | None]

MIN_BATCH, MAX_BATCH = 25, 500  # users in one call; fewer after each that failed, more after each that did not


class AttachQueue:
    """The questions that wait, each with those who asked it; bounded by the clients that are here.

    `incarnation` is the hub's; while it is None it is not known where the log stands, and nothing is asked.
    `answer` takes one waiter and its result; None: the database has no answer to just this question.
    """

    def __init__(self, answer: Callable[[Waiter, AttachResult | None], None]) -> None:
        self.incarnation: str | None = None
        self._answer = answer
        self._waiting: dict[AttachRequest, list[Waiter]] = {}
        self._asked: dict[AttachRequest, list[Waiter]] = {}
        self._generation = 0
        self._size = MAX_BATCH
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """How many questions wait."""
        return len(self._waiting)

    def put(self, request: AttachRequest, waiter: Waiter) -> None:
        """Ask this with the next batch."""
        self._waiting.setdefault(request, []).append(waiter)
        self._news.set()

    def drop(self, request: AttachRequest, waiter: Waiter) -> None:
        """The waiter has left; harmless when it has its result already."""
        for questions in (self._waiting, self._asked):
            waiters = questions.get(request, [])
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters and questions is self._waiting:
                    del questions[request]

    def invalidate(self) -> None:
        """Results that are still on their way count no more."""
        self._generation += 1

    def resume(self, incarnation: str) -> None:
        """The log has been read, and this is the incarnation it is in: what waited for that may be asked."""
        self.incarnation = incarnation
        if self._waiting:
            self._news.set()

    async def run(self, attach: Attach) -> None:
        """Until the process ends. `attach` raises TimeoutError and ConnectionError; its results are in order."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting and self.incarnation is not None:
                if not await self._ask_some(attach):
                    break
                await asyncio.sleep(0)

    async def _ask_some(self, attach: Attach) -> bool:
        """One batch. False: wait until the log has been read again."""
        batch = list(islice(self._waiting, self._size))
        self._asked = {request: self._waiting.pop(request) for request in batch}
        generation = self._generation
        try:
            results = await attach(batch)
        except TimeoutError:
            self._ask_less(batch)
            return True
        except ConnectionError:
            self._size = max(MIN_BATCH, self._size // 2)
            self._put_back(batch)
            return False
        self._size = min(MAX_BATCH, self._size * 2)
        unfit = []
        for request, result in zip(batch, results, strict=True):
            if result is None or (generation == self._generation and result.incarnation == self.incarnation):
                self._tell(request, result)
            else:
                unfit.append(request)
        self._put_back(unfit)
        # Of this generation and yet unfit: the result is of an incarnation that the log has still to tell us of.
        return not unfit or generation != self._generation

    def _ask_less(self, batch: list[AttachRequest]) -> None:
        """A batch took too long: smaller ones, after all others. A client that waits too long leaves by itself."""
        self._size = max(1, len(batch) // 2)
        for request in batch:
            for waiter in self._asked.pop(request):
                self._waiting.setdefault(request, []).append(waiter)

    def _put_back(self, requests: Iterable[AttachRequest]) -> None:
        """In front of all others, without those whose askers have left meanwhile."""
        front = {}
        for request in requests:
            if waiters := self._asked.pop(request):
                front[request] = waiters + self._waiting.pop(request, [])
        if front:
            self._waiting = front | self._waiting

    def _tell(self, request: AttachRequest, result: AttachResult | None) -> None:
        for waiter in self._asked.pop(request):
            self._answer(waiter, result)
