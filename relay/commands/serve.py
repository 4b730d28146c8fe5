"""after-hours serve and check: the relay, and what its settings lack."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from typing import TYPE_CHECKING

import click

from relay.app import Relay
from relay.check import check_everything
from relay.keys import KeysError
from relay.logs import configure
from relay.settings import SettingsError, load_settings, unknown_settings

if TYPE_CHECKING:
    from relay.settings import Settings

log = logging.getLogger("relay.serve")


def settings_or_exit() -> Settings:
    """The settings of the environment; tells what is wrong and exits with 2 otherwise."""
    try:
        return load_settings()
    except SettingsError as error:
        click.echo("\n".join([str(error), *unknown_settings()]), err=True)
        sys.exit(2)


@click.command()
def serve() -> None:
    """Serve until SIGTERM."""
    settings = settings_or_exit()
    configure(settings.log_level)
    for line in unknown_settings():
        log.warning(line)

    async def run() -> None:
        # uvicorn raises the signals it got once more when it has ended; then we are done, not to be killed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        relay = Relay(settings)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        await relay.serve()

    try:
        asyncio.run(run())
    except KeysError as error:
        click.echo(f"RELAY_JWT_KEY_FILE: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"RELAY_BIND or RELAY_ADMIN_BIND: {error}", err=True)
        sys.exit(2)


@click.command()
def check() -> None:
    """Tell what is wrong: settings, keys, addresses, each database host. Exits with 0 if nothing is."""
    settings = settings_or_exit()
    for line in unknown_settings():
        click.echo(f"warn {line}")
    is_good = True
    for good, text in asyncio.run(check_everything(settings)):
        is_good = is_good and good
        click.echo(f"{'ok  ' if good else 'BAD '} {text}")
    sys.exit(0 if is_good else 1)
