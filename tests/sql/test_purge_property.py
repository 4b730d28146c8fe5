"""P6 as a property: two sessions of the application, a moderator and a purge that stops before each of its steps,
in any order Hypothesis can think of; after each step, what is committed is looked at."""

from __future__ import annotations

import threading
import time
from pathlib import Path
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
from tests.sql.purge_helpers import DUE, ids, value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Connection, Instance

ISOLATION = Path(__file__).resolve().parents[1] / "isolation"
STEPS = ("1", "2", "3", "4", "5a", "5b", "5c", "6", "7", "8")

# Written by the same transaction as the deed, so that what is committed can be compared with what was done.
BOOKS = """
    create table test.sent (match_id uuid);
    create table test.deeds (id bigint generated always as identity, match_id uuid, deed text, expires_at timestamptz);
    grant select, insert on test.sent, test.deeds to public;
    create index on test.sent (match_id);
"""
# What must hold of every committed state. A row is a broken promise.
BROKEN = """
    with known as (
        select distinct d.match_id from test.deeds d
    ), last_deed as (
        select distinct on (d.match_id) d.match_id, d.deed from test.deeds d where d.deed in ('made', 'saved', 'unsaved') order by d.match_id, d.id desc
    ), last_expiry as (
        select distinct on (d.match_id) d.match_id, d.expires_at from test.deeds d where d.expires_at is not null order by d.match_id, d.id desc
    ), facts as (
        select k.match_id, m.id is not null as is_there, l.deed = 'saved' as is_saved, e.expires_at,
            (select count(*) from public.after_hours_messages g where g.match_id = k.match_id) as messages,
            (select count(*) from test.sent s where s.match_id = k.match_id) as sent,
            exists (select from test.deeds d where d.match_id = k.match_id and d.deed = 'deleted') as is_deleted,
            t.messages as tombstone, b.committed_at,
            exists (select from after_hours.holds h where h.match_id = k.match_id) as is_held,
            exists (select from after_hours.holds h join test.people p on h.user_id in (p.user_a, p.user_b)
                    where p.match_id = k.match_id and h.placed_at < b.committed_at) as was_held
        from known k
        join last_deed l using (match_id)
        join last_expiry e using (match_id)
        left join public.after_hours_matches m on m.id = k.match_id
        left join after_hours.purged_matches t on t.match_id = k.match_id
        left join after_hours.purge_batches b on b.seq = t.seq
    )
    select f.*, case
            when f.is_there and f.messages <> f.sent then 'lost messages'
            when not f.is_there and f.messages > 0 then 'orphans'
            when not f.is_there and f.tombstone is null and not f.is_deleted then 'gone without a trace'
            when f.is_there and f.tombstone is not null then 'tombstone of a living match'
            when f.tombstone is not null and f.tombstone <> f.sent then 'tombstone miscounts'
            when f.tombstone is not null and f.is_saved then 'saved, and purged'
            when f.tombstone is not null and f.is_held then 'held, and purged'
            when f.tombstone is not null and f.was_held then 'user held, and purged'
            when f.tombstone is not null and f.expires_at > now() - interval '30 days' then 'purged too early'
        end as broken
    from facts f
"""


class Session:
    """A connection that works in a thread of its own, since its statements may wait for locks."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.thread: threading.Thread | None = None
        self.result: Any = None
        self.error: psycopg.Error | None = None
        self.in_transaction = False

    def run(self, query: str, *parameters: object) -> None:
        """Start it; done when it is done, waiting if it waits."""

        def work() -> None:
            try:
                cursor = self.connection.execute(query, parameters)
                self.result = cursor.fetchone() if cursor.description else None
            except psycopg.Error as error:
                self.error = error

        assert not self.is_busy()
        self.error = self.result = None
        self.thread = threading.Thread(target=work)
        self.thread.start()
        self.thread.join(0.03)

    def is_busy(self) -> bool:
        if self.thread is not None and not self.thread.is_alive():
            self.thread.join()
            self.thread = None
        return self.thread is not None

    def wait(self) -> None:
        """Wait until its statement has ended."""
        if self.thread is not None:
            self.thread.join(20)
            assert not self.is_busy(), "stuck"


class PurgeMachine(RuleBasedStateMachine):
    """See the module's first lines."""

    instance: Instance

    @initialize()
    def start(self) -> None:
        make = self.instance.connect
        self.eye = make()
        reset(self.eye)
        self.eye.execute("truncate test.sent, test.deeds, test.people, test.reports restart identity")
        self.control = make()
        self.app = [Session(make("after_hours_app")) for _ in range(2)]
        self.moderator = Session(make())
        self.moderator.connection.execute("set role after_hours_moderator")
        self.purger = Session(make())
        self.purger.connection.execute("set role after_hours_dba")
        self.matches: list[UUID] = []
        self.stopped_at: str | None = None
        self.batch_open = False
        for days in (40, 40, 35, 31, 29):
            self.make(days)

    def make(self, days: int) -> None:
        match, first, second = uuid4(), uuid4(), uuid4()
        with self.eye.transaction():
            self.eye.execute(
                "insert into public.after_hours_matches (id, user_a, user_b, created_at, expires_at)"
                " values (%s, %s, %s, now() - interval '90 days', now() - %s * interval '24 hours')",
                (match, first, second, days),
            )
            self.eye.execute("insert into test.people values (%s, %s, %s)", (match, first, second))
            self.eye.execute(
                "insert into test.deeds (match_id, deed, expires_at) select id, 'made', expires_at from public.after_hours_matches where id = %s",
                (match,),
            )
            for _ in range(2):
                self.eye.execute("select test.send(%s)", (match,))
        self.matches.append(match)

    def pick(self, number: int) -> UUID:
        return self.matches[number % len(self.matches)]

    # --- the application: each deed and its entry in the books are one statement --------------------------------

    @rule(
        who=st.integers(0, 1),
        number=st.integers(0, 9),
        deed=st.sampled_from(("save", "unsave", "extend", "shorten", "send", "report", "unreport", "delete")),
    )
    def act(self, who: int, number: int, deed: str) -> None:
        session = self.app[who]
        if session.is_busy() or (session.in_transaction and session.error):
            return
        session.run(f"select test.{deed}(%s)", self.pick(number))

    @rule(who=st.integers(0, 1))
    def begin(self, who: int) -> None:
        session = self.app[who]
        if not session.is_busy() and not session.in_transaction:
            session.run("begin")
            session.wait()
            session.in_transaction = True

    @rule(who=st.integers(0, 1), how=st.sampled_from(("commit", "rollback")))
    def end(self, who: int, how: str) -> None:
        session = self.app[who]
        if not session.is_busy() and session.in_transaction:
            session.run(how)
            session.wait()
            session.in_transaction = False

    @precondition(lambda self: len(self.matches) < 12)
    @rule(days=st.sampled_from((29, 31, 60)))
    def new_match(self, days: int) -> None:
        self.make(days)

    # --- the moderator --------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 9), is_user=st.booleans())
    def hold(self, number: int, is_user: bool) -> None:
        if self.moderator.is_busy():
            return
        match = self.pick(number)
        if is_user:
            user = value(self.eye, "select user_a from test.people where match_id = %s", match)
            self.moderator.run("select after_hours.place_user_hold(%s, 'report', 'property')", user)
        else:
            self.moderator.run("select after_hours.place_hold(%s, 'report', 'property')", match)

    @rule()
    def release(self) -> None:
        hold = value(self.eye, "select min(id) from after_hours.holds")
        if not self.moderator.is_busy() and hold is not None:
            self.moderator.run("select after_hours.release_hold(%s, 'property')", hold)

    # --- the purge ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.stopped_at is None and not self.batch_open)
    @rule(step=st.sampled_from(STEPS), size=st.integers(1, 6))
    def batch(self, step: str, size: int) -> None:
        """A batch begins, and stops before a step."""
        self.eye.execute("update after_hours.settings set purge_batch_max = %s", (size,))
        self.control.execute("select pg_advisory_lock(4711, hashtext(%s))", (step,))
        self.stopped_at = step
        self.purger.run("select (after_hours.open_purge_run('manual', null, 'property')).id")
        self.purger.wait()
        assert self.purger.error is None, self.purger.error
        run = self.purger.result[0]
        assert run is not None
        self.purger.run("begin")
        self.purger.wait()
        self.batch_open = True
        self.purger.run("select after_hours.purge_batch(%s)", run)

    @precondition(lambda self: self.stopped_at is not None)
    @rule(step=st.sampled_from(STEPS))
    def go_on(self, step: str) -> None:
        """The batch continues, to a later step or to its end."""
        self.control.execute("select pg_advisory_lock(4711, hashtext(%s))", (step,)) if step > str(
            self.stopped_at
        ) else None
        self.control.execute("select pg_advisory_unlock(4711, hashtext(%s))", (self.stopped_at,))
        self.stopped_at = step if step > str(self.stopped_at) else None
        time.sleep(0.01)

    @precondition(lambda self: self.batch_open)
    @rule(how=st.sampled_from(("commit", "commit", "rollback", "kill")))
    def end_batch(self, how: str) -> None:
        if how == "kill":
            pid = self.purger.connection.info.backend_pid
            self.eye.execute("select pg_terminate_backend(%s, 5000)", (pid,))
            self.purger.wait()
            self.purger.connection.close()
            self.purger = Session(self.instance.connect())
            self.purger.connection.execute("set role after_hours_dba")
        self.control.execute("select pg_advisory_unlock_all()")
        self.stopped_at = None
        if how != "kill":
            self.purger.wait()
            assert self.purger.error is None, self.purger.error
            self.purger.run(how)
            self.purger.wait()
        self.batch_open = False

    @precondition(lambda self: not self.batch_open)
    @rule()
    def whole_purge(self) -> None:
        """All of it, as pg_cron does it; it may meet locks, and never raises."""
        self.eye.execute("update after_hours.settings set purge_batch_max = 2")
        self.purger.run("CALL after_hours.purge('manual', 0.2, null, 'property')")
        self.purger.wait()
        assert self.purger.error is None, self.purger.error

    @precondition(lambda self: self.batch_open)
    @rule()
    def second_purge(self) -> None:
        """Another one while a batch is open: told who is on, or goes on with what was abandoned; never both."""
        with self.instance.connect("after_hours_jobs") as jobs:
            jobs.execute("CALL after_hours.purge('catch_up', 0.1)")

    # --- what holds always ----------------------------------------------------------------------------------------

    @invariant()
    def promises(self) -> None:
        if hasattr(self, "eye"):
            rows = [row for row in self.eye.execute(BROKEN).fetchall() if row.broken]
            assert rows == []
            for session in (*self.app, self.moderator):
                error = session.error
                assert error is None or not isinstance(error, psycopg.errors.InternalError), error

    def teardown(self) -> None:
        if not hasattr(self, "eye"):
            return
        try:
            if self.batch_open:
                self.end_batch("commit")
            for _ in range(3):  # one may wait for the other
                for session in self.app:
                    if session.in_transaction and not session.is_busy():
                        session.run("commit")
                        session.in_transaction = False
                    if session.thread:
                        session.thread.join(2)
            self.moderator.wait()
            self.promises()
            # P7: no other transaction is open, so exactly what the plain rule names is deleted
            due = ids(self.eye, DUE)
            before = ids(self.eye)
            referenced = ids(self.eye, "select match_id from test.reports")
            self.purger.run("CALL after_hours.purge('manual', 30, null, 'property')")
            self.purger.wait()
            assert self.purger.error is None, self.purger.error
            assert ids(self.eye) == before - (due - referenced)
            self.promises()
            assert value(self.eye, "select bool_and(ok) from after_hours.verify_evidence()")
        finally:
            for connection in (
                self.eye,
                self.control,
                self.purger.connection,
                self.moderator.connection,
                *(s.connection for s in self.app),
            ):
                connection.close()


DEEDS = {
    "save": "update public.after_hours_matches set converted_to_match_id = gen_random_uuid() where id = p returning id, 'saved', null::timestamptz",
    "unsave": "update public.after_hours_matches set converted_to_match_id = null where id = p and converted_to_match_id is not null returning id, 'unsaved', null::timestamptz",
    "extend": "update public.after_hours_matches set expires_at = now() + interval '1 hour' where id = p returning id, 'extended', expires_at",
    "shorten": "update public.after_hours_matches set expires_at = now() - interval '50 days' where id = p returning id, 'shortened', expires_at",
}


@pytest.fixture(scope="module")
def stoppable(instance: Instance) -> Iterator[None]:
    """A purge that can be stopped, and the application's deeds with their books."""
    with instance.connect() as connection:
        connection.execute((ISOLATION / "setup.sql").read_text())
        connection.execute(BOOKS)
        connection.execute("create table test.people (match_id uuid, user_a uuid, user_b uuid)")
        for name, deed in DEEDS.items():
            connection.execute(
                f"create function test.{name}(p uuid) returns void language sql as $$ with d (a, b, c) as ({deed}) "
                "insert into test.deeds (match_id, deed, expires_at) select a, b, c from d $$"
            )
        connection.execute(
            "create function test.send(p uuid) returns void language sql as $$ "
            "insert into public.after_hours_messages (match_id, sender_id, body) values (p, p, 'property'); "
            "insert into test.sent values (p) $$;"
            "create function test.report(p uuid) returns void language sql as $$ insert into test.reports (match_id) values (p) $$;"
            "create function test.unreport(p uuid) returns void language sql as $$ delete from test.reports where match_id = p $$;"
            # as the tables' owner, matches first
            "create function test.delete(p uuid) returns void language plpgsql security definer as $$ begin "
            "perform from public.after_hours_matches where id = p for update; if not found then return; end if; "
            "delete from public.after_hours_messages where match_id = p; delete from public.after_hours_matches where id = p; "
            "insert into test.deeds (match_id, deed) values (p, 'deleted'); end $$;"
            "grant execute on all functions in schema test to public"
        )
        try:
            yield
        finally:
            connection.execute((ISOLATION / "teardown.sql").read_text())


@pytest.mark.timeout(240)
def test_p6_whatever_the_order(instance: Instance, stoppable: None) -> None:
    del stoppable
    machine = type("Machine", (PurgeMachine,), {"instance": instance})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20, stateful_step_count=25, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
