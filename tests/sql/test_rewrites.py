"""P3, P4, P7 beside DDL: what waits for a table to be rewritten then sees its rows; nothing is passed over.

A rewriting ALTER TABLE gives each row a new, younger version: a statement that took its snapshot before it waited for the
lock sees an empty table. CLUSTER keeps the rows' versions in a new file, TRUNCATE leaves none to any snapshot. (pg_repack
swaps files as CLUSTER does.)
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


@pytest.fixture(params=["alter", "cluster"])
def rewrite(
    request: pytest.FixtureRequest, db: Connection, connect: Callable[..., Connection]
) -> Iterator[Callable[..., Any]]:
    """Runs a query that has to wait until a table is rewritten, and returns its rows."""
    altered: set[str] = set()

    def run(table: str, query: str, *values: object, before: str = "") -> Any:
        ddl, reader = connect(autocommit=False), connect()
        reader.execute(before.encode())
        if request.param == "truncate":
            ddl.execute(f"truncate {table} cascade".encode())
        elif request.param == "alter":
            altered.add(table)
            ddl.execute(f"alter table {table} add column zz double precision default random()".encode())
        else:
            key = value(
                db, f"select indexrelid::regclass from pg_index where indrelid = '{table}'::regclass and indisprimary"
            )
            ddl.execute(f"cluster {table} using {str(key).rpartition('.')[2]}".encode())
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(lambda: reader.execute(query.encode(), values).fetchall())
            try:
                poll_until(lambda: answer.done() or db.execute(WAITING, (reader.info.backend_pid,)).fetchall())
                assert not answer.done(), "it reads the table"
            finally:
                ddl.commit()
            return answer.result()

    yield run
    for table in altered:
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


@pytest.fixture
def patient(db: Connection) -> Iterator[None]:
    """A batch that waits for its locks for longer than 50 ms."""
    db.execute("alter function after_hours.purge_batch(bigint) set lock_timeout = '30s'")
    yield
    db.execute("alter function after_hours.purge_batch(bigint) set lock_timeout = '50ms'")


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("table", ["public.after_hours_matches", "public.after_hours_messages", "after_hours.holds"])
def test_the_purge_deletes_what_is_due_and_keeps_what_is_held(
    db: Connection, rewrite: Callable[..., Any], table: str
) -> None:
    make_matches(db, 20)
    held = value(db, "select id from public.after_hours_matches limit 1")
    db.execute("select after_hours.place_hold(%s, 'report', 'a ticket')", (held,))
    messages = value(db, "select count(*) from public.after_hours_messages where match_id <> %s", held)
    (batch,) = rewrite(
        table,
        "select * from after_hours.purge_batch((select max(id) from after_hours.purge_runs))",
        before="select after_hours.open_purge_run('manual', null, null)",
    )
    assert (batch.matches, batch.messages) == (19, messages)
    assert value(db, "select array_agg(id) from public.after_hours_matches") == [held]


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


TRUNCATED = [
    ("public.after_hours_sessions", "select count(*) from after_hours.relay_events('aaaaaaaa-0') where kind = 'event'"),
    (
        "public.after_hours_sessions",
        "select coalesce(cardinality(bodies), 0) from after_hours.relay_attach(array[{}], array['aaaaaaaa-0'], array[now()])",
    ),
    ("public.after_hours_sessions", "select count(*) from after_hours.upcoming"),
    ("public.after_hours_messages", "select messages from after_hours.purge_preview() where section = 'due' limit 1"),
    ("public.after_hours_matches", "select due_matches from after_hours.open_purge_run('manual', null, null)"),
    ("after_hours.user_blocks", "select count(*) from after_hours.relay_events('aaaaaaaa-0') where kind = 'block'"),
]


@pytest.mark.parametrize("rewrite", ["truncate"], indirect=True)
@pytest.mark.parametrize(("table", "query"), TRUNCATED)
def test_what_is_truncated_is_gone_and_raises_nothing(
    db: Connection, rewrite: Callable[..., Any], warned: UUID, table: str, query: str
) -> None:
    make_matches(db, 20)
    db.execute("select after_hours.block_user(gen_random_uuid(), 'infinity', 'a ticket')")
    (row,) = rewrite(table, query.format(f"'{USER}'::uuid"))
    assert row[0] == 0
