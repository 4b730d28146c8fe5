"""P1 and P2 of announcing without marks: whatever is written, however late it commits, it is told once and in time.

emit_due() takes the clock as an argument, so that hours pass in seconds here.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from tests.conftest import reset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Connection, Instance

START = datetime(2026, 6, 1, 22, 0, 7, tzinfo=UTC)
EXPIRED = "after_hours:session_expired"
EXPIRING = "after_hours:session_expiring"
LEAD = timedelta(minutes=2)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
FOREVER = datetime.max.replace(tzinfo=UTC)


class Progress(NamedTuple):
    """The type after_hours.progress."""

    swept_at: datetime | None
    sweep_at: datetime | None
    retry_at: datetime | None
    retry_wait: timedelta | None
    retry_type: str | None
    retry_deadline: datetime | None
    retry_id: UUID | None


@dataclass(frozen=True)
class State:
    """What a session's row says; None in its place: the session does not exist."""

    started: datetime
    expires: datetime
    ended: datetime | None

    @property
    def deadline(self) -> datetime:
        return min(self.expires, self.ended or self.expires)

    def window(self, kind: str) -> tuple[datetime, datetime]:
        """From when to when the event may be told."""
        if kind == EXPIRED:
            return self.deadline, FOREVER
        if self.ended is not None:
            return FOREVER, FOREVER
        return max(self.expires - LEAD, self.started), self.expires


class Writer:
    """One transaction of the application, open for a while; what it has written, by session."""

    def __init__(self, db: Connection, until: datetime) -> None:
        self.db = db
        self.until = until
        self.wrote: dict[UUID, State | None] = {}
        self.undone: set[UUID] = set()
        self.prepared: str | None = None


class World:
    """Sessions, open transactions and two announce loops by a clock of their own."""

    def __init__(self, instance: Instance, seed: int, distance: timedelta) -> None:
        self.rng, self.distance = random.Random(seed), distance
        self.dsn = instance.dsn()
        self.db = psycopg.connect(self.dsn, autocommit=True, row_factory=namedtuple_row)
        reset(self.db)
        self.db.execute("update after_hours.settings set announce_since = %s", (START - timedelta(days=2),))
        self.now = START
        self.loops: list[Any] = [None, None]  # progress of each, as the database gave it
        self.limits = [1, 2, 2000] if distance < SECOND else [2000]
        self.wait = timedelta(0)  # before the next pass, as announce_loop() computes it
        self.writers: list[Writer] = []
        # (from, state) of what was committed; a lock of an open transaction stands as a state that can't be told
        self.history: dict[UUID, list[tuple[datetime, State | None, bool]]] = defaultdict(list)
        self.busy: set[UUID] = set()

    # -- the application

    def offset(self) -> timedelta:
        """Of a deadline from now: ahead, a little late, very late."""
        low, high = self.rng.choice(
            [(0, 5), (0, 200), (100, 125), (-2, 2), (-60, 0), (-3500, -60), (-40 * 3600, -3700)]
        )
        return timedelta(seconds=self.rng.uniform(low, high))

    def write(self, writer: Writer) -> None:
        """One change of one session that no other transaction has changed."""
        db, now = writer.db, self.now
        free = [s for s, h in self.history.items() if h[-1][1] is not None and s not in self.busy]
        kind = self.rng.choice(["insert", "insert", "move", "end", "delete", "lock", "return"])
        if kind == "insert" or not free:
            session = uuid4()
            deadline = now + self.offset()
            started = deadline - timedelta(seconds=self.rng.choice([3600, 3600, self.rng.uniform(1, 150)]))
            state: State | None = State(started, deadline, None)
            db.execute(
                "insert into public.after_hours_sessions (id, user_id, started_at, expires_at) values (%s, %s, %s, %s)",
                (session, session, started, deadline),
            )
        else:
            session = self.rng.choice(free)
            old = self.history[session][-1][1]
            assert old is not None
            if kind == "delete":
                state = None
                db.execute("delete from public.after_hours_sessions where id = %s", (session,))
            else:
                state = {
                    "move": State(old.started, now + self.offset(), old.ended),
                    "end": State(old.started, old.expires, now + min(self.offset(), timedelta(0))),
                    "return": State(
                        old.started,
                        self.rng.choice([s.expires for _, s, _ in self.history[session] if s is not None]),
                        old.ended,
                    ),
                }.get(kind, old)
                db.execute(
                    "update public.after_hours_sessions set expires_at = %s, ended_at = %s where id = %s",
                    (state.expires, state.ended, session),
                )
            self.history[session].append((now, old, True))
        self.busy.add(session)
        writer.wrote[session] = state

    def begin(self) -> None:
        long = self.rng.choice([*[0] * 12, 1, 5, 20, 20, 90, 700, 4000])
        writer = Writer(psycopg.connect(self.dsn), self.now + timedelta(seconds=long * self.rng.random()))
        for _ in range(self.rng.randint(1, 3)):
            self.write(writer)
            if self.rng.random() < 0.3:  # a subtransaction that stays, one that is undone
                writer.db.execute("savepoint s")
                known = set(writer.wrote)
                self.write(writer)
                if self.rng.random() < 0.5:
                    writer.db.execute("rollback to savepoint s")
                    writer.undone |= set(writer.wrote) - known
                else:
                    writer.db.execute("release savepoint s")
        if self.rng.random() < 0.2:
            writer.prepared = uuid4().hex
            writer.db.execute(f"prepare transaction '{writer.prepared}'")
            writer.db.close()
        self.writers.append(writer)

    def finish(self, writer: Writer) -> None:
        commits = self.rng.random() < 0.85
        if writer.prepared:
            self.db.execute(f"{'commit' if commits else 'rollback'} prepared '{writer.prepared}'")
        elif commits:
            writer.db.commit()
        else:
            writer.db.rollback()
        writer.db.close()
        self.writers.remove(writer)
        for session, state in writer.wrote.items():
            self.busy.discard(session)
            if commits and session not in writer.undone:
                self.history[session].append((self.now, state, False))
            elif self.history[session]:
                self.history[session].append((self.now, self.history[session][-1][1], False))
            else:
                del self.history[session]

    # -- the announcer

    def progress(self, which: int) -> Any:
        """How far a loop has come, as announce_pass() knows it."""
        known = self.loops[which]
        stored = self.row("select swept_at, sweep_at from after_hours.emitter")
        if known is None:
            return Progress(stored.swept_at, stored.sweep_at, *[None] * 5)
        if stored.swept_at is not None and (known.swept_at is None or known.swept_at < stored.swept_at <= self.now):
            return known._replace(swept_at=stored.swept_at, sweep_at=stored.sweep_at)
        return known

    def announce(self, which: int) -> None:
        """One pass of one of the loops; some are killed before they commit."""
        with self.db.transaction():
            done = self.row(
                "select (d.progress).* from after_hours.emit_due(%s, %s, %s, null, row(%s, %s, %s, %s, %s, %s, %s)) as d",
                self.now,
                self.rng.choice(self.limits),
                self.rng.choice(self.limits),
                *self.progress(which),
            )
            if killed := self.rng.random() < 0.03:
                raise_rollback(self.db)
        self.loops[which] = None if killed else Progress(*done)
        self.wait = timedelta(milliseconds=4)

    def row(self, query: str, *values: object) -> Any:
        return self.db.execute(query.encode(), values).fetchone()

    def step(self, writes: bool) -> None:
        """To the next pass; what the application does meanwhile."""
        which = self.rng.randrange(2)
        following = self.row("select after_hours.next_event(%s) as at", self.now).at
        known = self.progress(which)
        wake = min(
            self.now + self.distance, known.sweep_at or self.now, following or FOREVER, known.retry_at or FOREVER
        )
        wake = max(wake, self.now + self.wait)
        if self.distance > SECOND:
            wake = self.now + self.distance
        for at in sorted(self.now + (wake - self.now) * self.rng.random() for _ in range(self.rng.randint(0, 2))):
            self.now = at
            for writer in [w for w in self.writers if w.until <= at]:
                self.finish(writer)
            if writes and len(self.writers) < 30:
                self.begin()
        self.now = wake
        self.announce(which)

    def run(self, length: timedelta, rest: timedelta) -> None:
        """So long with writes, then so long without; all transactions end."""
        end = self.now + length
        while self.now < end:
            self.step(writes=True)
        for writer in list(self.writers):
            self.finish(writer)
        while self.now < end + rest:
            self.step(writes=False)

    # -- the naive rule

    def bound(self, late: timedelta) -> timedelta:
        """The promised delay of what was free to be told so long after it was due."""
        if self.distance > SECOND:
            return HOUR + 2 * self.distance
        if late <= timedelta(seconds=60):
            return timedelta(seconds=1.3)  # a pass of another loop, killed ones
        return timedelta(seconds=64) if late <= HOUR - timedelta(seconds=1) else HOUR

    def check(self) -> tuple[int, int]:
        """Raise AssertionError unless everything was told as promised; numbers of events and of late ones."""
        events: list[Any] = self.db.execute("select * from after_hours.events order by id").fetchall()
        told = {(e.type, e.session_id, e.deadline): e.emitted_at for e in events}
        assert len(told) == len(events), "nothing twice"
        assert max(Counter(e.uid for e in events).values()) == 1
        allowed: dict[tuple[str, UUID, datetime], list[tuple[datetime, datetime]]] = defaultdict(list)
        late = 0
        for session, changes in self.history.items():
            ends = [at for at, _, _ in changes[1:]] + [self.now]
            for (since, state, locked), until in zip(changes, ends, strict=True):
                if state is None:
                    continue
                for kind in (EXPIRED, EXPIRING):
                    opens, closes = state.window(kind)
                    begin, end = max(since, opens), min(until, closes)
                    key = (kind, session, state.deadline)
                    if end < begin:
                        continue
                    allowed[key].append((begin, end))
                    within = self.bound(max(since - opens, timedelta(0)))
                    if kind == EXPIRING:
                        within = min(within, max(timedelta(seconds=1.3), 2 * self.distance))
                    if not locked and end - begin > within:
                        late += since > opens
                        assert key in told, f"{key} stood from {begin} to {end} and was not told"
                        assert told[key] <= begin + within, f"{key} was told {told[key] - begin} after {begin}"
        for key, at in told.items():
            assert any(begin <= at <= end for begin, end in allowed[key]), f"{key} was told at {at}: {allowed[key]}"
        return len(events), late


def raise_rollback(db: Connection) -> None:
    """Leave the block of Connection.transaction() as a kill would: nothing is committed."""
    raise psycopg.Rollback


@pytest.fixture
def world(prepared: Instance) -> Iterator[Callable[[int, timedelta], World]]:
    made: list[World] = []

    def make(seed: int, distance: timedelta) -> World:
        made.append(World(prepared, seed, distance))
        return made[-1]

    yield make
    for one in made:
        for writer in list(one.writers):
            one.finish(writer)
        one.db.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(2))
def test_each_deadline_is_told_once_within_its_delay(world: Callable[[int, timedelta], World], seed: int) -> None:
    """Late by up to a minute: a second; by up to an hour: a minute. Passes as the loops make them."""
    made = world(seed, timedelta(milliseconds=900))
    made.run(timedelta(minutes=10), timedelta(minutes=3))
    events, late = made.check()
    assert events > 200
    assert late > 30, "the histories must contain what only a sweep finds"


@pytest.mark.timeout(300)
def test_what_is_older_than_an_hour_is_told_within_the_hour(world: Callable[[int, timedelta], World]) -> None:
    """Passes once in 50 seconds, transactions of up to an hour, deadlines of two days ago."""
    made = world(11, timedelta(seconds=50))
    made.run(timedelta(hours=4), timedelta(hours=2))
    events, late = made.check()
    assert events > 100
    assert late > 50
