"""What can go wrong with a call: the connection is lost, or the database answers strangely. Only these two.

A lost connection is made again, and what was asked is asked again. A strange answer (an error of a function, rows of
another shape) would be the same over a new connection: it is told once, and never the end of the process.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, TypeVar

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

log = logging.getLogger("relay.database")

Row = TypeVar("Row")
Result = TypeVar("Result")

POOLED = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
LOST = (
    OSError,  # TimeoutError as well
    asyncpg.PostgresConnectionError,  # 08
    asyncpg.OperatorInterventionError,  # 57: shutdown, crash; a role's statement_timeout is read by new sessions only
    asyncpg.ReadOnlySQLTransactionError,  # not a primary any more
    asyncpg.InternalClientError,
    *POOLED,
)
FAILURES = 16  # calls without one success: then it isn't the fault of a few elements


class StrangeAnswer(Exception):
    """The database answers, but not as agreed."""


def is_lost(error: BaseException) -> bool:
    """True if there is no use in asking again over this connection; not for asyncpg's InterfaceErrors about values."""
    return isinstance(error, LOST) or (
        isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError | TypeError)
    )


class Strangeness:
    """The calls that are answered strangely at present, with the reason; each reason is logged once."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    @property
    def reason(self) -> str | None:
        """One sentence for /readyz; None while all is well."""
        told = "; ".join(f"{call}: {reason}" for call, reason in self._reasons.items())
        return f"the database answers strangely: {told}" if told else None

    def note(self, call: str, error: StrangeAnswer | None) -> None:
        """The outcome of a call."""
        if error is None:
            self._reasons.pop(call, None)
            return
        reason = str(error).partition("\n")[0][:300]
        if self._reasons.get(call) != reason:
            log.warning("the database answers strangely", extra={"call": call, "reason": reason})
        self._reasons[call] = reason

    async def noted(self, call: str, answer: Awaitable[Result]) -> Result | None:
        """The answer to a call, its outcome noted; None when it is strange."""
        try:
            result = await answer
        except StrangeAnswer as error:
            self.note(call, error)
            return None
        self.note(call, None)
        return result


async def call_in_parts(
    call: Callable[[Sequence[Row]], Awaitable[Sequence[Result]]], rows: Sequence[Row]
) -> tuple[list[Result | None], StrangeAnswer | None]:
    """Results in the order of the rows, None for each row at fault; the last error, None if there was none.

    A batch that fails is halved until the rows at fault are alone. After FAILURES calls without one success it is the
    call that is at fault, not the rows: then all results are None.
    """
    results: list[Result | None] = [None] * len(rows)
    parts = deque([range(len(rows))])
    failures, succeeded, last = 0, False, None
    while parts:
        part = parts.popleft()
        try:
            results[part.start : part.stop] = await call(rows[part.start : part.stop])
            succeeded = True
        except StrangeAnswer as error:
            failures, last = failures + 1, error
            if failures >= FAILURES and not succeeded:
                break
            if len(part) > 1:
                middle = (part.start + part.stop) // 2
                parts += (range(part.start, middle), range(middle, part.stop))
    return results, last
