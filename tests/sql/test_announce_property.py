"""P1 as a property: whatever is done to sessions while several callers announce and are killed, each deadline is told
at most once, each end that stands exactly once, nothing for a deadline that has moved, each event by one NOTIFY."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import reset

if TYPE_CHECKING:
    from tests.conftest import Instance

EXPIRING = "after_hours:session_expiring"
EXPIRED = "after_hours:session_expired"
LEAD = timedelta(minutes=2)
# around both instants that matter: the end, and the warning two minutes before
OFFSETS = st.one_of(st.integers(-80, 250), st.integers(119_920, 120_250))


class Deadline:
    """One deadline that a session had, and when it stopped to be its deadline (not before; None: it stands)."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        self.moved_at: datetime | None = None


class Announcing(RuleBasedStateMachine):
    instance: Instance

    @initialize()
    def begin(self) -> None:
        self.db = self.instance.connect()
        reset(self.db)
        self.listener = self.instance.connect()
        self.listener.execute("listen after_hours_events")
        self.told: Counter[str] = Counter()
        self.history: dict[UUID, list[Deadline]] = {}
        self.deleted: set[UUID] = set()
        self.rng = random.Random(0)

    def live(self) -> list[UUID]:
        return [session for session in self.history if session not in self.deleted]

    def write(self, session: UUID, statement: str, *values: object) -> None:
        """Change a session, and note what deadline it has from now on."""
        row = self.db.execute(
            f"{statement} returning least(ended_at, expires_at) as deadline", (*values, session)
        ).fetchone()
        assert row is not None
        known = self.history.setdefault(session, [])
        if known and known[-1].at != row.deadline:
            known[-1].moved_at = datetime.now(UTC)
        if not known or known[-1].at != row.deadline:
            known.append(Deadline(row.deadline))

    @rule(offset=OFFSETS)
    def start(self, offset: int) -> None:
        now = datetime.now(UTC)
        self.write(
            uuid4(),
            "insert into public.after_hours_sessions (user_id, started_at, expires_at, id) "
            "values (gen_random_uuid(), %s, %s, %s)",
            now - timedelta(hours=1), now + timedelta(milliseconds=offset),
        )  # fmt: skip

    @precondition(lambda self: self.live())
    @rule(offset=OFFSETS, pick=st.randoms(use_true_random=False))
    def move(self, offset: int, pick: random.Random) -> None:
        at = datetime.now(UTC) + timedelta(milliseconds=offset)
        self.write(pick.choice(self.live()), "update public.after_hours_sessions set expires_at = %s where id = %s", at)

    @precondition(lambda self: any(len(d) > 1 for d in self.history.values()))
    @rule(pick=st.randoms(use_true_random=False))
    def return_to_an_earlier_deadline(self, pick: random.Random) -> None:
        session = pick.choice([s for s, deadlines in self.history.items() if len(deadlines) > 1])
        if session not in self.deleted:
            at = pick.choice(self.history[session]).at
            self.write(session, "update public.after_hours_sessions set expires_at = %s where id = %s", at)

    @precondition(lambda self: self.live())
    @rule(pick=st.randoms(use_true_random=False))
    def end(self, pick: random.Random) -> None:
        session = pick.choice(self.live())
        self.write(session, "update public.after_hours_sessions set ended_at = clock_timestamp() where id = %s")

    @precondition(lambda self: self.live())
    @rule(pick=st.randoms(use_true_random=False))
    def delete(self, pick: random.Random) -> None:
        session = pick.choice(self.live())
        self.db.execute("delete from public.after_hours_sessions where id = %s", (session,))
        self.deleted.add(session)
        self.history[session][-1].moved_at = datetime.now(UTC)

    @rule(callers=st.integers(1, 4), kills=st.integers(0, 3), moves=st.booleans(), seed=st.integers(0, 2**32))
    def announce(self, callers: int, kills: int, moves: bool, seed: int) -> None:
        """Several callers at once, some of them killed in the middle, sessions moved meanwhile."""
        rng = random.Random(seed)
        connections = [self.instance.connect() for _ in range(callers)]
        pids = [connection.info.backend_pid for connection in connections]

        def call(connection: psycopg.Connection[Any]) -> None:
            with suppress(psycopg.OperationalError), connection:
                for _ in range(10):
                    connection.execute("select after_hours.announce_due(2)")

        threads = [threading.Thread(target=call, args=(connection,)) for connection in connections]
        for thread in threads:
            thread.start()
        for _ in range(kills):
            self.db.execute("select pg_sleep(%s)", (rng.random() * 0.004,))
            self.db.execute("select pg_terminate_backend(%s)", (rng.choice(pids),))
        while moves and self.live() and any(thread.is_alive() for thread in threads):
            at = datetime.now(UTC) + timedelta(milliseconds=rng.choice([-20, 1, 2, 200, 120_001, 120_200]))
            self.write(
                rng.choice(self.live()), "update public.after_hours_sessions set expires_at = %s where id = %s", at
            )
        for thread in threads:
            thread.join()
        for connection in connections:
            connection.close()

    def events(self) -> list[Any]:
        return self.db.execute("select * from after_hours.events order by id").fetchall()

    @invariant()
    def nothing_twice_early_or_outdated(self) -> None:
        if not hasattr(self, "db"):
            return
        events = self.events()
        # a NOTIFY follows its commit within milliseconds; a surplus one would be seen at the next step
        missing = len(events) - self.told.total()
        for notification in self.listener.notifies(timeout=5 if missing else 0, stop_after=missing or None):
            self.told[json.loads(notification.payload)["id"]] += 1
        assert Counter(str(e.uid) for e in events) == self.told, "one NOTIFY per event, in the same commit"
        assert len({(e.type, e.session_id, e.deadline) for e in events}) == len(events)
        for event in events:
            assert event.emitted_at >= event.due_at, "nothing is early"
            assert event.type == EXPIRED or event.emitted_at < event.deadline
            lives = [d for d in self.history[event.session_id] if d.at == event.deadline]
            assert any(d.moved_at is None or event.emitted_at <= d.moved_at for d in lives), "its deadline had moved"

    def teardown(self) -> None:
        if not hasattr(self, "db"):
            return
        self.db.execute("select pg_sleep(0.3)")  # the last of the ends has come by now
        self.db.execute("select after_hours.announce_due()")
        ends = {(e.session_id, e.deadline) for e in self.events() if e.type == EXPIRED}
        warnings = {(e.session_id, e.deadline) for e in self.events() if e.type == EXPIRING}
        now = datetime.now(UTC)
        for session in self.live():
            deadline = self.history[session][-1].at
            assert ((session, deadline) in ends) == (deadline <= now), "exactly one end for the deadline that stands"
            is_ended = self.db.execute(
                "select ended_at is not null from public.after_hours_sessions where id = %s", (session,)
            ).fetchone()
            if deadline - LEAD <= now < deadline and is_ended == (False,):
                assert (session, deadline) in warnings
        self.nothing_twice_early_or_outdated()
        self.listener.close()
        self.db.close()


@pytest.mark.timeout(300)
def test_exactly_once_whatever_happens(instance: Instance) -> None:
    machine = type("Bound", (Announcing,), {"instance": instance})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
        ),
    )  # fmt: skip
