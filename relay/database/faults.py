"""The two failures of a call: the connection is lost, or the answer is unexpected.

After a lost connection the relay connects again and repeats the call. An unexpected answer (an error of a function,
rows of another shape) would be the same over a new connection: it is logged once and never ends the process.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, TypeVar

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from relay.state import RelayState

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
FAILURES = 16  # calls without one success: then the call is at fault, not a few rows


class UnexpectedAnswer(Exception):
    """An error of a function, or rows of another shape than agreed."""


def is_lost(error: BaseException) -> bool:
    """True if the connection is of no further use; asyncpg's InterfaceErrors about values leave it usable."""
    return isinstance(error, LOST) or (
        isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError | TypeError)
    )


class CallFaults:
    """The calls that the database answers unexpectedly at present: logged once per reason, shown as state.fault."""

    def __init__(self, state: RelayState) -> None:
        self._state = state
        self._reasons: dict[str, str] = {}

    def record(self, call: str, error: UnexpectedAnswer | None) -> None:
        """Record the outcome of a call; None: it succeeded."""
        if error is None:
            self._reasons.pop(call, None)
        else:
            reason = str(error).partition("\n")[0][:300]
            if self._reasons.get(call) != reason:
                log.warning("unexpected answer of the database", extra={"call": call, "reason": reason})
            self._reasons[call] = reason
        faults = "; ".join(f"{each}: {reason}" for each, reason in self._reasons.items())
        self._state.fault = f"unexpected answer of the database: {faults}" if faults else None

    async def recorded(self, call: str, answer: Awaitable[Result]) -> Result | None:
        """Await the answer to a call and record its outcome; None if it is unexpected."""
        try:
            result = await answer
        except UnexpectedAnswer as error:
            self.record(call, error)
            return None
        self.record(call, None)
        return result


async def call_in_parts(
    call: Callable[[Sequence[Row]], Awaitable[Sequence[Result]]], rows: Sequence[Row]
) -> tuple[list[Result | None], UnexpectedAnswer | None]:
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
        except UnexpectedAnswer as error:
            failures, last = failures + 1, error
            if failures >= FAILURES and not succeeded:
                break
            if len(part) > 1:
                middle = (part.start + part.stop) // 2
                parts += (range(part.start, middle), range(middle, part.stop))
    return results, last
