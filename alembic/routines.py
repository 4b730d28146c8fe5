"""Applies the routines and views of sql/: only what has changed, and so that nobody waits for it longer than 0.3 s."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg
from alembic.util import CommandError
from apply import install_files, tree_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

LOCK_SECONDS = 0.2  # in which all views to be replaced have to be had: their readers queue behind us meanwhile
PAUSE_SECONDS = 1.0  # in which they run, before it is tried again
OBJECT = re.compile(r"^create (?:or replace )?(function|procedure|view) after_hours\.(\w+)", re.MULTILINE)
BUSY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)

LATEST = "select revision, sql_text from after_hours.sql_ledger order by id desc limit 1"
UNCHANGED = """
    select o.identity, substring(o.identity from '^after_hours\\.(\\w+)')
    from after_hours.sql_objects as o
    join after_hours.list_sql_objects() as c
        on c.kind = o.kind and c.identity = o.identity and c.state_hash = o.state_hash
    where o.applied_at = (select l.applied_at from after_hours.sql_ledger as l order by l.id desc limit 1)
"""
IS_WHOLE = """
    select not exists (select from after_hours.sql_drift) and not exists (select from after_hours.list_missing())
        and not exists (select from after_hours.check_jobs() as j where not j.ok)
"""
INSERT_LEDGER = "insert into after_hours.sql_ledger (revision, tree_hash, sql_text) values (%s, %s, %s)"
HOLDERS = """
    select
        format('%s (role %s%s, open since %s)%s',
            case when t.gid is null then 'pid ' || t.pid else 'prepared transaction ' || quote_literal(t.gid) end,
            t.owner, case when t.application <> '' then ', ' || t.application end,
            to_char(t.since at time zone 'UTC', 'HH24:MI:SS"Z"'),
            case when t.query <> '' then ': ' || t.query end),
        t.statement
    from after_hours._list_transactions() as t
    where t.since < clock_timestamp() - interval '0.2 seconds' and exists (
        select
        from pg_locks as l
        join pg_class as c on c.oid = l.relation and c.relnamespace = to_regnamespace('after_hours')
        where (l.pid = t.pid or l.pid is null and l.virtualtransaction = t.virtualtransaction) and l.granted
            and l.database = (select d.oid from pg_database as d where d.datname = current_database())
    )
    order by t.since
    limit 3
"""


def latest(connection: psycopg.Connection[Any]) -> tuple[str, str]:
    """Revision and text of the latest apply; two empty strings if there was none."""
    if connection.execute("select to_regclass('after_hours.sql_ledger')").fetchone() == (None,):
        return "", ""
    return connection.execute(LATEST).fetchone() or ("", "")


def unchanged(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Names, by identity, of the objects that stand as the latest apply has left them."""
    try:
        with connection.transaction():
            connection.execute("set local search_path = pg_catalog, pg_temp")
            return dict(connection.execute(UNCHANGED).fetchall())
    except psycopg.Error:
        return {}  # a first installation, or what tells it is damaged: everything is made again


def is_whole(connection: psycopg.Connection[Any]) -> bool:
    """Whether no object, right or job has to be mended."""
    try:
        with connection.transaction():
            return bool(connection.execute(IS_WHOLE).fetchall()[0][0])
    except psycopg.Error:
        return False


def apply_files(connection: psycopg.Connection[Any], revision: str, files: list[tuple[str, str]]) -> None:
    """Make what has changed in one transaction, views last: replacing one locks its readers out until the commit."""
    before, old = latest(connection)
    same = unchanged(connection) if old else {}
    names = set(same.values())
    objects = {text: found for name, text in files if name and (found := OBJECT.search(text))}
    kept = {text for text, found in objects.items() if text in old and found[2] in names}
    is_same = (
        bool(objects) and before == revision and len(kept) == len(objects) and all(text in old for _, text in files)
    )
    if is_same and is_whole(connection):
        return
    connection.rollback()  # of what was read: the locks end, and the transaction below is one
    views = [text for text in objects if objects[text][1] == "view" and text not in kept] if old else []
    kept |= {text for name, text in files if name == "comments.sql" and text in old}  # they lock what announcing locks
    rest = [text for name, text in files if text.strip() and text not in kept and text not in views]
    last = [text for name, text in files if name in {"kept.sql", "prune.sql", "jobs/schedule.sql"}]
    with connection.transaction(), connection.cursor() as cursor:
        if old:
            stays = [
                identity
                for identity, name in same.items()
                if name in {objects[text][2] for text in kept if text in objects}
            ]
            cursor.execute("select set_config('after_hours.unchanged', %s::text[]::text, true)", (stays,))
            cursor.execute("set local check_function_bodies = off")  # of a routine that reads a view that comes later
        run(cursor, [text for text in rest if text not in last])
        end = time.monotonic() + LOCK_SECONDS
        for text in views:
            left = max(1, round((end - time.monotonic()) * 1000))
            cursor.execute(f"set local lock_timeout = {left}".encode())
            run(cursor, [text])
        run(cursor, last)
        whole = "".join(text for _, text in files)
        cursor.execute(INSERT_LEDGER, (revision, tree_hash(whole), whole))


def find_holders(connection: psycopg.Connection[Any]) -> list[Any]:
    """Who has locked something of the schema, the oldest three: a description, and the statement that ends it."""
    try:
        return connection.execute(HOLDERS).fetchall()
    except psycopg.Error:
        return []  # a first installation, or the function is damaged
    finally:
        connection.rollback()


def run(cursor: psycopg.Cursor[Any], texts: Iterable[str]) -> None:
    for text in texts:
        cursor.execute(text.encode())


def is_busy(error: psycopg.Error) -> bool:
    return isinstance(error, BUSY) or "tuple concurrently updated" in str(error)


def install(connection: psycopg.Connection[Any], revision: str, seconds: float, stored: str | None = None) -> None:
    """Apply install.sql, or the stored text of an earlier apply, and write its ledger row: all or nothing.

    Repeats it for so many seconds while others hold what it needs, and says who. Raises CommandError after that.
    """
    files = install_files() if stored is None else [("", stored)]
    end = time.monotonic() + seconds
    told: list[Any] = []
    while True:
        try:
            apply_files(connection, revision, files)
            return
        except psycopg.Error as error:
            if not is_busy(error):
                raise
            holders = find_holders(connection)
            who = "; ".join(holder for holder, _ in holders) or "a lock that has ended"
            if time.monotonic() > end:
                raise CommandError(
                    f"{error.diag.message_primary} ({error.sqlstate}): nothing was changed in {seconds:g} s of trying. "
                    f"It waits for {who}.\nHINT: End it ({holders[0][1] if holders else 'it has ended'}), then repeat."
                ) from None
            if holders[:1] != told:
                told = holders[:1]
                print(f"waiting for {who}; tried again for up to {seconds:g} s", file=sys.stderr)
            time.sleep(PAUSE_SECONDS)
