"""Reads sql/ as psql would: expands \\ir, checks that write-once files are what their revision says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import psycopg
from alembic import op
from alembic.util import CommandError

SQL = Path(__file__).resolve().parent.parent / "sql"
INDEX = re.compile(r"create (?:unique )?index concurrently if not exists (?P<index>\w+)\s+on (?P<schema>\w+)\.")
INCLUDE = re.compile(r"^\\ir\s+(\S+)\s*$", re.MULTILINE)


def read(path: Path) -> str:
    """The text of one file with every \\ir replaced by the file it names."""
    text = path.read_text(encoding="utf-8")
    return INCLUDE.sub(lambda match: read(path.parent / match[1]), text)


def install_text() -> str:
    return read(SQL / "install.sql")


def tree_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def stored_text(connection: psycopg.Connection[Any], revision: str) -> str | None:
    """The routines' text of the latest apply at this revision; None if there was none."""
    query = "select sql_text from after_hours.sql_ledger where revision = %s order by id desc limit 1"
    row = connection.execute(query, (revision,)).fetchone()
    return None if row is None else str(row[0])


def own_version_table(connection: psycopg.Connection[Any], revisions: set[str]) -> None:
    """Earlier versions kept our revision in the table of the application's Alembic: move that row over, once.

    A row is ours if our schema is there, our own table is not, and the revision is the one last applied (after an
    interrupted first installation: any of ours). Rows of others stay as they are.
    """
    query = (
        "select to_regclass('public.after_hours_alembic_version') is null "
        "and to_regclass('alembic_version') is not null and to_regclass('after_hours.sql_ledger') is not null"
    )
    row = connection.execute(query).fetchone()
    if row is None or not row[0]:
        return
    last = connection.execute("select revision from after_hours.sql_ledger order by id desc limit 1").fetchone()
    ours = {str(last[0])} if last else revisions
    found = connection.execute("select version_num from alembic_version").fetchall()
    moving = [str(version) for (version,) in found if version in ours]
    if moving:
        connection.execute(
            "create table public.after_hours_alembic_version (version_num varchar(32) not null "
            "constraint after_hours_alembic_version_pkc primary key)"
        )
        connection.execute("insert into public.after_hours_alembic_version values (%s)", (moving[0],))
        connection.execute("delete from alembic_version where version_num = %s", (moving[0],))


def change_text(name: str, sha256: str) -> str:
    """A write-once file of sql/changes/. Raises CommandError if it is not what the revision was written for."""
    text = (SQL / "changes" / name).read_text(encoding="utf-8")
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != sha256:
        raise CommandError(
            f"sql/changes/{name} was edited after its revision was written (sha256 {found}). "
            "Restore it from git; a further change needs a file and a revision of its own."
        )
    return text


def execute(text: str) -> None:
    """Send a script as it stands: no bind parameters, no % formatting; with --sql, print it."""
    if op.get_context().as_sql:
        op.get_context().impl.static_output(text)
        return
    driver = op.get_bind().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    driver.execute(text.encode())


def execute_each(text: str) -> None:
    """Send each statement in a transaction of its own, as CREATE INDEX CONCURRENTLY needs; plain statements only.

    An interrupted one leaves an invalid index, which IF NOT EXISTS would keep: it is dropped first.
    """
    assert "$$" not in text, "a file of this kind holds plain statements only"
    with op.get_context().autocommit_block():
        for statement in re.split(r";\s*\n", text):
            if found := INDEX.search(statement):
                drop_if_invalid(found["index"], found["schema"])
            if re.sub(r"--.*", "", statement).strip():
                execute(statement + ";")


def drop_if_invalid(index: str, schema: str) -> None:
    """Drop what an interrupted CREATE INDEX CONCURRENTLY has left."""
    if op.get_context().as_sql:
        return
    driver = op.get_bind().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    query = "select from pg_index where indexrelid = to_regclass(%s) and not indisvalid"
    if driver.execute(query, (f"{schema}.{index}",)).fetchone() is not None:
        execute(f"drop index concurrently {schema}.{index};")
