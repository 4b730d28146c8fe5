"""P10: whoever holds a lock that announcing or the purge waits for is named, with the statement that ends it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.helpers import poll_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection, Instance

HOLDERS = "select * from after_hours.list_lock_holders('{}', '0 s') where object like %s"


@pytest.mark.parametrize(
    ("table", "mode"),
    [
        ("public.after_hours_sessions", "ACCESS EXCLUSIVE"),
        ("public.after_hours_matches", "SHARE"),
        ("public.after_hours_messages", "SHARE ROW EXCLUSIVE"),
        ("after_hours.settings", "ACCESS EXCLUSIVE"),
        ("after_hours.emitter", "ROW SHARE"),
        ("after_hours.holds", "ROW EXCLUSIVE"),
        ("after_hours.purge_batches", "EXCLUSIVE"),
    ],
)
def test_a_table_lock_is_named(db: Connection, connect: Callable[..., Connection], table: str, mode: str) -> None:
    holder = connect(autocommit=False)
    holder.execute("set application_name = 'report'; select 'a secret'")
    holder.execute(f"lock table {table} in {mode} mode".encode())
    (row,) = db.execute(HOLDERS, (f"%{table}",)).fetchall()
    pid = holder.info.backend_pid
    assert row.statement == f"select pg_terminate_backend({pid});"
    assert row.description.startswith(f"{mode} on {table} by pid {pid} (role ")
    assert "report, idle in transaction" in row.description
    assert row.description.endswith(f": lock table {table} in {mode} mode")
    holder.rollback()
    assert db.execute(HOLDERS, (f"%{table}",)).fetchall() == []


@pytest.mark.parametrize(
    ("table", "mode"),
    [
        ("public.after_hours_sessions", "ROW EXCLUSIVE"),
        ("public.after_hours_matches", "ACCESS SHARE"),
        ("after_hours.emitter", "ACCESS SHARE"),
        ("after_hours.holds", "SHARE"),
    ],
)
def test_a_lock_that_harms_nobody_is_not_named(
    db: Connection, connect: Callable[..., Connection], table: str, mode: str
) -> None:
    connect(autocommit=False).execute(f"lock table {table} in {mode} mode".encode())
    assert db.execute(HOLDERS, (f"%{table}",)).fetchall() == []


def test_a_statement_that_waits_behind_a_reader_is_named(db: Connection, connect: Callable[..., Connection]) -> None:
    reader, ddl = connect(autocommit=False), connect()
    pid = ddl.info.backend_pid
    reader.execute("select from public.after_hours_sessions limit 1")
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(ddl.execute, "alter table public.after_hours_sessions add column zz int")

        def holder() -> Any:
            return db.execute(HOLDERS, ("%after_hours_sessions",)).fetchone()

        row = poll_until(holder)
        db.execute(f"select pg_cancel_backend({pid})")
        with pytest.raises(psycopg.errors.QueryCanceled):
            waiting.result()
    assert f"waited for by pid {pid}" in row.description
    assert f"behind pid {reader.info.backend_pid}" in row.description


def test_a_prepared_transaction_is_named(prepared: Instance) -> None:
    with prepared.connect() as db:
        db.execute(
            "begin; lock table public.after_hours_matches in exclusive mode; prepare transaction 'it''s forgotten'"
        )
        (row,) = db.execute(HOLDERS, ("%after_hours_matches",)).fetchall()
        assert (row.pid, row.gid) == (None, "it's forgotten")
        assert row.statement == "rollback prepared 'it''s forgotten';"
        db.execute(row.statement)
        assert db.execute(HOLDERS, ("%after_hours_matches",)).fetchall() == []


def test_text_of_users_is_not_shown(db: Connection, connect: Callable[..., Connection]) -> None:
    writer = connect(autocommit=False)
    writer.execute("lock table after_hours.holds in row exclusive mode; select  'my secret', 2")
    (row,) = db.execute(HOLDERS, ("%after_hours.holds",)).fetchall()
    assert "secret" not in row.description


def test_health_names_the_holder(db: Connection, connect: Callable[..., Connection]) -> None:
    health = "select * from after_hours.health where check_name = 'locks'"
    (check,) = db.execute(health).fetchall()
    assert check.ok
    holder = connect(autocommit=False)
    holder.execute("lock table after_hours.settings in share mode")
    time.sleep(2.1)  # shorter ones are everyday life
    (check,) = db.execute(health).fetchall()
    assert not check.ok
    assert f"SHARE on after_hours.settings by pid {holder.info.backend_pid}" in check.detail
    assert check.next_command == f"if it can be ended: select pg_terminate_backend({holder.info.backend_pid});"


def test_a_role_without_rights_sees_nothing(db: Connection) -> None:
    db.execute("set role after_hours_relay")
    try:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(HOLDERS, ("%",))
    finally:
        db.execute("reset role")
