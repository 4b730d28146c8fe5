"""Console output of the scenario, and the list of promises that it checks."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from demo.event import Event

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]  # column names (none: plain lines), rows

WIDTH = 72  # of a cell; the rest is cut
LATE = 250.0  # ms; P2 allows 20 at the 99th percentile, but a development machine may be busy


class Console:
    """Prints lines with the seconds since the start, and records which promises were kept."""

    def __init__(self, *, relay: str, secret: str) -> None:
        self.relay = relay
        self.secret = secret
        self._promises: list[tuple[str, bool]] = []
        self._since = time.monotonic()
        self._colors = sys.stdout.isatty()

    def heading(self, title: str) -> None:
        """Print a heading."""
        print(f"\n{self._paint('1', title)}")

    def say(self, who: str, text: str) -> None:
        """Print one line of the scenario."""
        print(f"{time.monotonic() - self._since:6.1f} s  {who:5} {text}")

    def frame(self, who: str, kind: str, text: str) -> None:
        """Print one line for a received frame."""
        self.say(who, f"{self._paint('33', f'◂ {kind}')}  {text}")

    def statement(self, statement: str, result: Table) -> None:
        """Print a statement and its result as psql shows them."""
        print(f"\n{self._paint('36', 'after_hours=#')} {statement}")
        names, rows = result
        if not names:
            print("\n".join(str(row[0]) for row in rows))
            return
        cells = [[_shown(value) for value in row] for row in [names, *rows]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [" " + " | ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
        lines.insert(1, "-" + "-+-".join("-" * width for width in widths) + "-")
        print("\n".join(lines))
        print(f"({len(rows)} row{'' if len(rows) == 1 else 's'})")

    def check(self, promise: str, kept: bool) -> None:
        """Record a promise as kept or broken."""
        self._promises.append((promise, kept))

    def check_event(self, promise: str, event: Event | None, *, within: float = LATE) -> None:
        """Record a promise as kept if its event arrived, at most `within` ms after it was due."""
        if event is None:
            self.check(f"{promise} (no event arrived)", False)
        else:
            self.check(f"{promise} ({event.late:.1f} ms after it was due)", 0 <= event.late <= within)

    def summary(self) -> int:
        """Print all promises. Returns the exit code: 0 if every promise was kept."""
        self.heading("What was promised")
        for promise, kept in self._promises:
            print(f"  {self._paint('32', 'kept  ') if kept else self._paint('31', 'BROKEN')}  {promise}")
        broken = sum(not kept for _, kept in self._promises)
        seconds = time.monotonic() - self._since
        print(f"\n{len(self._promises) - broken} promises kept, {broken} broken, in {seconds:.0f} s")
        return 1 if broken else 0

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colors else text


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(" ", "milliseconds").replace("+00:00", "Z")
    return str("" if value is None else value)[:WIDTH]
