"""after-hours push: sends webhooks for users who are not connected."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from pathlib import Path

import click
import psycopg

from relay.commands.database import NoConnection, failure
from relay.dsn import DsnError, prepare_dsn
from relay.logs import configure
from relay.webhooks.network import make_client
from relay.webhooks.sender import Connection, Sender


@click.command()
@click.option("--once", is_flag=True, help="Send what is due now, then exit: for cron.")
@click.option(
    "--secrets",
    envvar="CREDENTIALS_DIRECTORY",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory with a file per secret_name; default $CREDENTIALS_DIRECTORY (systemd).",
)
@click.option("--allow-host", "allowed", multiple=True, metavar="NAME", help="A host that may have a private address.")
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
def push(once: bool, secrets: Path, allowed: tuple[str, ...], log_level: str) -> None:
    """POST the events that no client acknowledged to the targets, until SIGTERM.

    The targets are rows of after_hours.push_targets; what waits: after_hours.push_backlog; each attempt: push_history.
    The database is named by AFTER_HOURS_DSN, best as role after_hours_push. Any number of these may run.
    """
    configure(log_level)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs addresses, which may hold a token
    try:
        dsn = prepare_dsn(os.environ.get("AFTER_HOURS_DSN", ""))
    except DsnError as error:
        raise NoConnection(f"AFTER_HOURS_DSN: {error}") from None

    async def connect() -> Connection:
        return await psycopg.AsyncConnection.connect(
            dsn,
            fallback_application_name="after-hours-push",
            autocommit=True,
            prepare_threshold=None,  # a transaction pooler may be in between
            target_session_attrs="read-write",
        )

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with make_client(allowed) as client:
            sender = Sender(connect, client, secrets, f"{socket.gethostname()}:{os.getpid()}")
            if once:
                click.echo(f"{await sender.run_once()} requests")
            else:
                await sender.run(stop)

    try:
        asyncio.run(run())
    except psycopg.OperationalError as error:
        raise NoConnection(str(error)) from None
    except psycopg.Error as error:
        raise failure(error) from None
