"""What the story prints, and its ledger of promises. Knows nothing of databases and sockets."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from demo.viewer import Event

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]  # column names (none: plain lines), rows

WIDTH = 72  # of a cell; the rest is cut
LATE = 250.0  # ms; the design promises 20 at the 99th percentile, but this machine may be doing anything else


class Stage:
    """Prints with the seconds since the beginning in front, and remembers what was promised."""

    def __init__(self, *, relay: str, secret: str) -> None:
        self.relay = relay
        self.secret = secret
        self._promises: list[tuple[str, bool]] = []
        self._since = time.monotonic()
        self._colors = sys.stdout.isatty()

    def act(self, title: str) -> None:
        """A heading."""
        print(f"\n{self._paint('1', title)}")

    def say(self, who: str, text: str) -> None:
        """One line of the story."""
        print(f"{time.monotonic() - self._since:6.1f} s  {who:5} {text}")

    def frame(self, who: str, kind: str, text: str) -> None:
        """One line for a frame that arrived."""
        self.say(who, f"{self._paint('33', f'◂ {kind}')}  {text}")

    def typed(self, statement: str, answer: Table) -> None:
        """A statement as one would type it into psql, and its answer."""
        print(f"\n{self._paint('36', 'after_hours=#')} {statement}")
        names, rows = answer
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
        """Note a promise as kept or broken."""
        self._promises.append((promise, kept))

    def check_told(self, promise: str, event: Event | None, *, within: float = LATE) -> None:
        """Note a promise that hangs on an event: kept if it came, at most `within` ms after it was due."""
        if event is None:
            self.check(f"{promise} (nothing came)", False)
        else:
            self.check(f"{promise} ({event.late:.1f} ms after it was due)", 0 <= event.late <= within)

    def summary(self) -> int:
        """The last screen. Returns the exit code: 0 if every promise was kept."""
        self.act("What was promised")
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
