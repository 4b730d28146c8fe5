"""Logical replication of the application's tables: the doctor says what it means, and a table without identity ends a run in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.sql.purge_helpers import make_match, make_matches, value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Connection, Instance

FOUND = "select subject, ok, finding from after_hours.doctor() where subject ~ '^(publication|subscription|replica)'"
TABLES = "public.after_hours_sessions, public.after_hours_matches, public.after_hours_messages"


@pytest.fixture
def published(db: Connection) -> Iterator[Connection]:
    db.execute(f"create publication p for table {TABLES}".encode())
    yield db
    db.execute("drop publication p")


def found(db: Connection) -> list[Any]:
    return db.execute(FOUND).fetchall()


def test_a_publication_is_named_until_it_is_accepted(published: Connection) -> None:
    (row,) = found(published)
    assert (row.subject, row.ok) == ("publication p", False)
    assert "also what it holds itself" in row.finding
    published.execute("alter publication p set (publish = 'insert, update')")
    assert "keeps everything" in found(published)[0].finding
    published.execute("update after_hours.settings set accepted_publications = accepted_publications || 'p'::text")
    assert found(published)[0].ok


def test_a_subscriber_is_told_what_its_holds_are_worth(published: Connection, instance: Instance) -> None:
    """It subscribes to itself and is never enabled: what the catalog says is the same."""
    conninfo = instance.dsn().replace("'", "''")
    published.execute(
        f"create subscription s connection '{conninfo}' publication p"
        " with (create_slot = false, slot_name = none, enabled = false, copy_data = false)".encode()
    )
    try:
        row = next(row for row in found(published) if row.subject == "subscription s")
        assert not row.ok
        assert "after_hours_matches" in row.finding
        assert "without a tombstone" in row.finding
    finally:
        published.execute("drop subscription s")


def test_a_table_without_identity_fails_the_run_in_words(published: Connection) -> None:
    make_matches(published, 50)
    published.execute("alter table public.after_hours_messages replica identity nothing")
    try:
        with pytest.raises(psycopg.Error, match="replica identity"):
            published.execute("call after_hours.purge()")
        run = published.execute("select status, failed from after_hours.purge_history limit 1").fetchall()[0]
        assert tuple(run) == ("failed", 0)
        assert value(published, "select count(*) from after_hours.purge_failures") == 0
        rows = {row.subject: row for row in found(published)}
        assert not rows["replica identity of public.after_hours_messages in publication p"].ok
    finally:
        published.execute("alter table public.after_hours_messages replica identity default")
    published.execute("call after_hours.purge()")
    assert value(published, "select matches from after_hours.purge_history limit 1") == 50


def test_a_run_that_set_everything_aside_is_no_success(db: Connection) -> None:
    make_match(db)
    db.execute(
        "create function public.no() returns trigger language plpgsql as $$ begin raise 'no' using errcode = '23514'; end $$;"
        " create trigger no before delete on public.after_hours_matches for each row execute function public.no()"
    )
    try:
        db.execute("call after_hours.purge()")
        latest = "select status from after_hours.purge_history limit 1"
        assert value(db, latest) == "partial"
        db.execute("call after_hours.purge()")
        assert value(db, latest) == "succeeded", "it is known, and in not_purged"
    finally:
        db.execute("drop function public.no() cascade")


def test_many_held_matches_are_walked_through_in_large_steps(db: Connection) -> None:
    make_matches(db, 600, days=60)
    db.execute("select after_hours.place_hold(m.id, 'legal', 'x') from public.after_hours_matches as m")
    make_matches(db, 5)
    run = value(db, "select id from after_hours.open_purge_run('manual', null, null)")
    db.execute("update after_hours.purge_runs set batch_size = 1")
    batches = 0
    while value(db, "select outcome from after_hours.purge_batch(%s)", run) in ("more", "again"):
        batches += 1
    assert value(db, "select matches from after_hours.purge_history limit 1") == 5
    assert batches < 40


def test_row_security_is_a_run_that_says_so(db: Connection) -> None:
    make_match(db)
    db.execute("alter table public.after_hours_matches enable row level security")
    try:
        db.execute("call after_hours.purge()")
        run = db.execute("select status, detail from after_hours.purge_history limit 1").fetchall()[0]
        assert run.status == "braked"
        assert "row security" in run.detail
    finally:
        db.execute("alter table public.after_hours_matches disable row level security")
