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


def install_files() -> list[tuple[str, str]]:
    """install.sql in pieces, in order: name and text of each file that it names; "" and what stands between them."""
    text, pieces, at = (SQL / "install.sql").read_text(encoding="utf-8"), [], 0
    for match in INCLUDE.finditer(text):
        pieces += [("", text[at : match.start()]), (match[1], read(SQL / match[1]))]
        at = match.end()
    return [*pieces, ("", text[at:])]


def install_text() -> str:
    return "".join(text for _, text in install_files())


def tree_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def stored_text(connection: psycopg.Connection[Any], revision: str) -> str | None:
    """The routines' text of the latest apply at this revision; None if there was none."""
    query = "select sql_text from after_hours.sql_ledger where revision = %s order by id desc limit 1"
    row = connection.execute(query, (revision,)).fetchone()
    return None if row is None else str(row[0])


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
