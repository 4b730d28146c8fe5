"""P3, P4, P7 beside DDL: what waits for a table to be rewritten then sees its rows; nothing is passed over.

A rewriting ALTER TABLE gives each row a new, younger version: a statement that took its snapshot before it waited for the
lock sees an empty table.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from tests.helpers import poll_until
from tests.sql.purge_helpers import make_matches, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Connection

USER = UUID(int=7)
WAITING = "select from pg_stat_activity where wait_event_type = 'Lock' and pid = %s"


@pytest.fixture
def rewrite(db: Connection, connect: Callable[..., Connection]) -> Iterator[Callable[..., Any]]:
    """Runs a query that has to wait until a table is rewritten, and returns its rows."""
    rewritten: set[str] = set()

    def run(table: str, query: str, *values: object) -> Any:
        ddl, reader = connect(autocommit=False), connect()
        rewritten.add(table)
        ddl.execute(f"alter table {table} add column zz double precision default random()".encode())
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(lambda: reader.execute(query.encode(), values).fetchall())
            try:
                poll_until(lambda: answer.done() or db.execute(WAITING, (reader.info.backend_pid,)).fetchall())
                assert not answer.done(), "it reads the table"
            finally:
                ddl.commit()
            return answer.result()

    yield run
    for table in rewritten:
        db.execute(f"alter table {table} drop column zz".encode())


@pytest.fixture
def warned(db: Connection) -> UUID:
    """A session that ends in a minute and whose warning is announced."""
    session = uuid4()
    db.execute(
        "insert into public.after_hours_sessions (id, user_id, started_at, expires_at)"
        " values (%s, %s, now() - interval '1 hour', now() + interval '1 minute')",
        (session, USER),
    )
    db.execute("select after_hours.announce_due()")
    return session


@pytest.mark.parametrize(
    "table", ["public.after_hours_sessions", "after_hours.events", "after_hours.epochs", "after_hours.event_floor"]
)
def test_a_relay_reads_the_warning(db: Connection, rewrite: Callable[..., Any], warned: UUID, table: str) -> None:
    rows = rewrite(table, "select kind, cursor, body from after_hours.relay_events('aaaaaaaa-0')")
    assert [row.kind for row in rows] == ["head", "event"]
    assert str(warned) in rows[1].body
    assert rows[0].cursor == rows[1].cursor


@pytest.mark.parametrize(
    "table", ["public.after_hours_sessions", "after_hours.events", "after_hours.epochs", "after_hours.event_floor"]
)
def test_a_client_that_connects_gets_its_session_and_its_warning(
    db: Connection, rewrite: Callable[..., Any], warned: UUID, table: str
) -> None:
    (row,) = rewrite(
        table, "select * from after_hours.relay_attach(array[%s], array['aaaaaaaa-0'], array[now()])", USER
    )
    assert str(warned) in row.state
    assert (row.start, len(row.bodies)) == ("replayed", 1)


def test_a_blocked_user_stays_blocked(db: Connection, rewrite: Callable[..., Any], warned: UUID) -> None:
    db.execute("select after_hours.block_user(%s, 'infinity', 'a ticket')", (USER,))
    attach = "select * from after_hours.relay_attach(array[%s], array[null], array[now()])"
    (row,) = rewrite("after_hours.user_blocks", attach, USER)
    assert row.start == "blocked"


@pytest.mark.parametrize("table", ["public.after_hours_sessions", "after_hours.events"])
def test_a_push_is_not_cancelled(db: Connection, rewrite: Callable[..., Any], warned: UUID, table: str) -> None:
    db.execute("update after_hours.settings set receipts = true")
    db.execute(
        "insert into after_hours.push_targets (name, url, secret_name, wait, added_at)"
        " values ('one', 'http://127.0.0.1:9/', 'one', '1 second', now() - interval '1 hour')"
    )
    time.sleep(1)  # its wait
    (row,) = rewrite(table, "select * from after_hours.push_claim('n')")
    assert str(warned) in row.body


@pytest.mark.parametrize("table", ["public.after_hours_matches", "public.after_hours_messages"])
def test_the_brake_counts_what_is_due(db: Connection, rewrite: Callable[..., Any], table: str) -> None:
    make_matches(db, 20)
    (row,) = rewrite(table, "select due_matches from after_hours.open_purge_run('manual', null, null)")
    assert row.due_matches == 20


@pytest.mark.parametrize("table", ["public.after_hours_matches", "public.after_hours_messages"])
def test_the_preview_shows_what_is_due(db: Connection, rewrite: Callable[..., Any], table: str) -> None:
    make_matches(db, 20)
    preview = "select section, matches, messages from after_hours.purge_preview()"
    expected = db.execute(preview).fetchall()
    assert rewrite(table, preview) == expected


@pytest.mark.parametrize("table", ["public.after_hours_matches", "public.after_hours_messages", "after_hours.holds"])
def test_a_match_is_explained(db: Connection, rewrite: Callable[..., Any], table: str) -> None:
    make_matches(db, 1)
    match = value(db, "select id from public.after_hours_matches")
    db.execute("select after_hours.place_hold(%s, 'report', 'a ticket')", (match,))
    explained = rewrite(table, "select * from after_hours.explain_match(%s)", match)
    assert ("verdict", "stays: held") in [tuple(row) for row in explained]
    assert ("messages", "1") in [tuple(row) for row in explained]


def test_evidence_is_complete(db: Connection, rewrite: Callable[..., Any]) -> None:
    make_matches(db, 20)
    db.execute("call after_hours.purge()")
    assert all(row.ok for row in rewrite("after_hours.purge_batches", "select * from after_hours.verify_evidence()"))
    assert all(row.ok for row in rewrite("after_hours.purged_matches", "select * from after_hours.verify_evidence()"))


@pytest.mark.parametrize("table", ["public.after_hours_sessions", "after_hours.events"])
def test_health_counts_what_is_late(db: Connection, rewrite: Callable[..., Any], table: str) -> None:
    db.execute(
        "insert into public.after_hours_sessions (user_id, started_at, expires_at)"
        " values (gen_random_uuid(), now() - interval '1 hour', now() - interval '5 seconds')"
    )
    (row,) = rewrite(table, "select ok from after_hours.health where check_name = 'overdue_events'")
    assert not row.ok
