"""after-hours purge: a preview, or a purge with its progress and receipt. The procedure does all of the work."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import click
import psycopg

from relay.commands.database import Row, connect, echo_columns, echo_json, failure, json_option, query

if TYPE_CHECKING:
    from uuid import UUID

PREVIEW = "select section, item, matches, messages, bytes, is_estimate, detail from after_hours.purge_preview()"
LATEST = "select * from after_hours.purge_history where run_id is not null order by run_id desc limit 1"
RECEIPT = """
    select d.statement, d.hash, d.is_verified
    from after_hours.purged_matches as t
    cross join lateral after_hours.deletion_receipt(t.match_id) as d
    where d.run_id operator(pg_catalog.=) %s
    order by t.seq desc
    limit 1
"""
CALL = b"call after_hours.purge(p_match_id => %s, p_override_brake => %s)"
POLL_SECONDS = 0.5


@click.command()
@click.option("--preview", is_flag=True, help="What would be deleted and what not, and why; deletes nothing.")
@click.option("--now", is_flag=True, help="Delete what is overdue. Ctrl-C is safe: the next run continues.")
@click.option("--match", type=click.UUID, help="Only this match, by the same rules.")
@click.option("--override-brake", metavar="REASON", help="Run although the brake is on; the reason is recorded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(preview: bool, now: bool, match: UUID | None, override_brake: str | None, yes: bool, as_json: bool) -> None:
    """Delete the overdue matches with their messages, or show what that would be.

    Exits with 1 if the run did not delete all that it could (status other than succeeded).
    """
    if preview == now:
        raise click.UsageError("one of --preview and --now")
    with connect() as connection:
        rows = query(connection, PREVIEW)
        due = sum(row["matches"] or 0 for row in rows if row["section"] == "due")
        if preview:
            echo_json(rows) if as_json else echo_columns(rows)
            return
        if match is None and due == 0:
            raise click.ClickException("nothing is overdue; what stays and why: after-hours purge --preview")
        if not yes:
            what = f"match {match}" if match else f"{due} matches with their messages"
            click.confirm(f"Delete {what} for good?", abort=True, err=True)
        call(connection, due, (match, override_brake), is_quiet=as_json)
        (run,) = query(connection, LATEST)
        receipt = query(connection, RECEIPT, run["run_id"])
    if as_json:
        echo_json({"run": run, "receipt": receipt})
    else:
        click.echo(
            f"run {run['run_id']} {run['status']}: {run['matches']} matches, {run['messages']} messages "
            f"in {run['duration']}{', ' + run['detail'] if run['detail'] else ''}"
        )
        for row in receipt:
            click.echo(f"the receipt of one: {row['statement']} Hash {row['hash']}.")
    sys.exit(0 if run["status"] == "succeeded" or (match and run["matches"]) else 1)


def call(connection: psycopg.Connection[Row], due: int, values: tuple[Any, ...], is_quiet: bool) -> None:
    """Call the procedure in a thread and show the run's own counts. Ctrl-C cancels the statement, then is raised."""
    errors: list[psycopg.Error] = []

    def run() -> None:
        try:
            connection.execute(CALL, values)
        except psycopg.Error as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    with (
        connect() as observer,
        click.progressbar(
            length=max(due, 1), label="purging", file=sys.stderr, hidden=is_quiet or not sys.stderr.isatty()
        ) as bar,
    ):
        latest = query(observer, "select coalesce(pg_catalog.max(run_id), 0) as run_id from after_hours.purge_history")[
            0
        ]["run_id"]
        done = 0
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                for row in query(observer, LATEST):
                    if row["run_id"] > latest:
                        bar.update(row["matches"] - done)
                        done = row["matches"]
        except KeyboardInterrupt:
            connection.cancel()
            thread.join()
            raise
    if errors:
        raise failure(errors[0])
