"""after-hours doctor and status: what the database says about itself. Both only read."""

from __future__ import annotations

import sys

import click

from relay.commands.database import connect, echo_checks, echo_columns, echo_json, json_option, query

HEALTH = "select check_name, ok, detail, next_command from after_hours.health"
DOCTOR = "select subject, ok, finding, advice from after_hours.doctor()"
SECTIONS = {
    "jobs": "select job, schedule, next_run, last_start, last_status, accuracy from after_hours.jobs",
    "backlog": "select * from after_hours.backlog limit 5",
    "upcoming": "select due_in, type, session_id from after_hours.upcoming limit 5",
    "purges": "select run_id, trigger, status, matches, messages, duration from after_hours.purge_history limit 5",
}


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Examine server, pg_cron, roles, foreign keys, triggers, rights. Exits with 1 if something needs attention."""
    with connect() as connection:
        rows = query(connection, DOCTOR)
    if as_json:
        echo_json(rows)
    else:
        echo_checks(rows, "subject", "finding", "advice")
    sys.exit(0 if all(row["ok"] for row in rows) else 1)


@click.command()
@json_option
def status(as_json: bool) -> None:
    """One screen: failed checks, jobs, backlog, next deadlines, last purges. Exits with 1 if a check failed."""
    with connect() as connection:
        health = query(connection, HEALTH)
        sections = {name: query(connection, text) for name, text in SECTIONS.items()}
    failed = [row for row in health if not row["ok"]]
    if as_json:
        echo_json({"health": health, **sections})
    else:
        if failed:
            echo_checks(failed, "check_name", "detail", "next_command")
        else:
            click.echo(f"ok   all {len(health)} checks")
        for name, rows in sections.items():
            click.echo(f"\n{name}")
            echo_columns(rows)
    sys.exit(1 if failed else 0)
