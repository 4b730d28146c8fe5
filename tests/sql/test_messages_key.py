"""Key and indexes of the messages: of a new installation, of an adopted table, and the online change from one to the other."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.helpers import REPO
from tests.sql.purge_helpers import make_match, make_matches, messages_of, purge, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Connection

INDEXES = """
    select pg_get_indexdef(i.indexrelid) from pg_index as i
    where i.indrelid = 'public.after_hours_messages'::regclass order by 1
"""
NEW = [
    "CREATE INDEX after_hours_messages_match_id_idx ON public.after_hours_messages USING btree (match_id)",
    "CREATE UNIQUE INDEX after_hours_messages_pkey ON public.after_hours_messages USING btree (id)",
]
# the table of many applications
OLD = """
    alter table public.after_hours_messages drop constraint after_hours_messages_pkey, add primary key (match_id, id);
    drop index public.after_hours_messages_match_id_idx;
    alter table public.after_hours_messages alter column match_id reset (n_distinct)
"""
# 20 matches of 4,500 messages and 200 of 50: the average match has 450, most have 50
SKEWED = """
    set session_replication_role = replica;
    insert into public.after_hours_messages (match_id, sender_id, body)
    select md5(n::text)::uuid, gen_random_uuid(), 'the text of a message' || g
    from generate_series(1, 220) as n cross join lateral generate_series(1, case when n <= 20 then 4500 else 50 end) as g;
    reset session_replication_role;
    analyze public.after_hours_messages
"""


def indexes(db: Connection) -> list[str]:
    """The definitions of the messages' indexes."""
    return [row[0] for row in db.execute(INDEXES).fetchall()]


def online_change() -> list[str]:
    """The statements of docs/operations.md, in order."""
    page = (REPO / "docs" / "operations.md").read_text()
    section = page.split("\n## The key of the messages\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sql\n(.*?)^```", section, re.M | re.S)
    return [part.strip() for part in "".join(blocks).split(";\n") if part.strip()]


@pytest.fixture
def old_key(db: Connection) -> Iterator[Connection]:
    """The messages with the key (match_id, id) alone; afterwards as a new installation makes them."""
    db.execute(OLD.encode())
    yield db
    if indexes(db) != NEW:
        db.execute("truncate public.after_hours_messages")
        for statement in online_change():
            db.execute(statement.encode())


def test_a_new_installation_has_a_key_and_a_deduplicated_index(db: Connection) -> None:
    assert indexes(db) == NEW
    n_distinct = (  # the server may store other options beside it
        "select o.option_value from pg_attribute as a cross join lateral pg_options_to_table(a.attoptions) as o "
        "where a.attrelid = 'public.after_hours_messages'::regclass and a.attname = 'match_id' and o.option_name = 'n_distinct'"
    )
    assert value(db, n_distinct) == "-0.02"
    assert value(db, "select purge_batch_target::text from after_hours.settings") == "00:00:00.06"


def test_the_latest_messages_of_a_match_are_read_by_its_index(db: Connection) -> None:
    """With the average as estimate, the key is scanned backwards until 50 rows of one match are found."""
    db.execute(SKEWED.encode())
    db.execute("set plan_cache_mode = force_generic_plan")
    latest = "select * from public.after_hours_messages where match_id = $1 order by id desc limit 50"

    def plan() -> str:
        db.execute("deallocate all")
        db.execute(f"prepare latest (uuid) as {latest}".encode())
        return "\n".join(row[0] for row in db.execute("explain execute latest (gen_random_uuid())").fetchall())

    try:
        assert "after_hours_messages_match_id_idx" in plan()
        db.execute("alter table public.after_hours_messages alter column match_id reset (n_distinct)")
        db.execute("analyze public.after_hours_messages")
        assert "Backward using after_hours_messages_pkey" in plan(), "this data would show the trap"
    finally:
        db.execute("alter table public.after_hours_messages alter column match_id set (n_distinct = -0.02)")


def test_the_documented_change_gives_an_adopted_table_the_new_key_online(
    old_key: Connection, connect: Callable[..., Connection]
) -> None:
    make_matches(old_key, 200, messages=3)
    kept = make_match(old_key, days=1, messages=3)
    started, stopped = threading.Event(), threading.Event()

    def write() -> int:
        """Insert until stopped. A statement that waits for 5 s raises."""
        count = 0
        with connect(options="-c statement_timeout=5s") as application:
            while not stopped.wait(0.002):
                application.execute(
                    "insert into public.after_hours_messages (match_id, sender_id, body) values (%s, %s, 'meanwhile')",
                    (kept, kept),
                )
                count += 1
                started.set()
        return count

    with ThreadPoolExecutor() as threads:
        writer = threads.submit(write)
        try:
            assert started.wait(30)
            for statement in online_change():
                old_key.execute(statement.encode())
        finally:
            stopped.set()
        written = writer.result()
    assert indexes(old_key) == NEW
    assert (
        value(
            old_key, "select n_distinct from pg_stats where tablename = 'after_hours_messages' and attname = 'match_id'"
        )
        < 0
    )
    run = purge(old_key)
    assert (run.status, run.matches, run.messages) == ("succeeded", 200, 600)
    assert messages_of(old_key, kept) == 3 + written


def test_both_shapes_pass_the_preflight_and_are_purged(old_key: Connection) -> None:
    """A table without any index led by match_id is refused: test_migrations."""
    preflight = (REPO / "sql" / "preflight.sql").read_text()
    for statements in ([], online_change()):
        for statement in statements:
            old_key.execute(statement.encode())
        make_matches(old_key, 20, messages=3)
        old_key.execute(preflight.encode())
        run = purge(old_key)
        assert (run.status, run.matches, run.messages) == ("succeeded", 20, 60)
        assert value(old_key, "select ok from after_hours.check_indexes() where check_name = 'indexes'")


def test_a_lost_index_is_a_row_of_health(db: Connection) -> None:
    db.execute("drop index public.after_hours_messages_match_id_idx")
    try:
        row = db.execute("select * from after_hours.check_indexes() where check_name = 'indexes'").fetchone()
        assert row is not None
        assert not row.ok
        assert "led by match_id" in row.detail
    finally:
        db.execute(row.next_command.encode() if row else b"")
    assert indexes(db) == NEW
