"""The connection of a command, and rows as text or JSON."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click
import psycopg
from psycopg.rows import dict_row

from relay.dsn import DsnError, prepare_dsn

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = dict[str, Any]
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class NoConnection(click.ClickException):
    """The database cannot be reached; exit code 2."""

    exit_code = 2


def connect(autocommit: bool = True) -> psycopg.Connection[Row]:
    """Connect as AFTER_HOURS_DSN or libpq's variables say. Raises NoConnection."""
    try:
        dsn = prepare_dsn(os.environ.get("AFTER_HOURS_DSN", ""))
        return psycopg.connect(
            dsn, fallback_application_name="after-hours", autocommit=autocommit, row_factory=dict_row
        )
    except DsnError as error:
        raise NoConnection(f"AFTER_HOURS_DSN: {error}") from None
    except psycopg.Error as error:
        raise NoConnection(f"{error}\nSet AFTER_HOURS_DSN or libpq's PG… variables, then repeat.") from None


def failure(error: psycopg.Error) -> click.ClickException:
    """The server's message with its DETAIL and HINT, which say what to do. Exit code 1."""
    told = error.diag
    if told.sqlstate in {"3F000", "42P01", "42883"} and "after_hours" in (told.message_primary or ""):
        return click.ClickException(f"{told.message_primary}\nHINT: after-hours preflight, then migrate")
    lines = [told.message_primary or str(error)]
    lines += [
        f"{name}: {text}" for name, text in (("DETAIL", told.message_detail), ("HINT", told.message_hint)) if text
    ]
    return click.ClickException("\n".join(lines))


def query(connection: psycopg.Connection[Row], text: str, *values: Any) -> list[Row]:
    """The rows of one query. Raises ClickException with what the server says."""
    try:
        return connection.execute(text.encode(), values or None).fetchall()
    except psycopg.Error as error:
        raise failure(error) from None


def echo_json(value: Any) -> None:
    """Print rows as JSON; instants as ISO 8601, durations as PostgreSQL's driver writes them."""
    click.echo(json.dumps(value, default=str, indent=1))


def echo_columns(rows: Sequence[Row]) -> None:
    """Print rows under their column names, each column as wide as its widest value."""
    if not rows:
        click.echo("(none)")
        return
    lines = [list(rows[0]), *(["" if value is None else str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip())


def echo_checks(rows: Sequence[Row], name: str, finding: str, advice: str) -> bool:
    """Print a line per check, and below a failed one what to do; True if none failed. name …: columns of the rows."""
    for row in rows:
        click.echo(f"{'ok  ' if row['ok'] else 'BAD '} {row[name]}: {row[finding] or ''}".rstrip(": "))
        if not row["ok"] and row[advice]:
            click.echo(f"       {row[advice]}")
    return all(row["ok"] for row in rows)
