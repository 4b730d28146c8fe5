"""python -m relay: serve (the default), tail, check. Nothing here can make a token."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.app import Relay
from relay.check import check_everything
from relay.client import Client, Stopped
from relay.keys import KeysError
from relay.logs import configure
from relay.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from relay.settings import Settings


def settings_or_exit() -> Settings:
    """The settings of the environment; tells what is wrong and exits with 2 otherwise."""
    try:
        return load_settings()
    except SettingsError as error:
        click.echo(f"{error}", err=True)
        sys.exit(2)


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Writes announced events to their user's WebSockets. Settings: RELAY_… in the environment."""
    if context.invoked_subcommand is None:
        context.invoke(serve)


@main.command()
def serve() -> None:
    """Serve until SIGTERM (the default command)."""
    settings = settings_or_exit()
    configure(settings.log_level)

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


@main.command()
@click.argument("url", default="ws://127.0.0.1:8787/ws")
@click.option("--token", envvar="RELAY_TOKEN", help="Better as RELAY_TOKEN: everybody sees arguments.")
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--after", metavar="CURSOR", help="Go on after this cursor.")
@click.option("--all", "all_frames", is_flag=True, help="Also hello, ping and the like.")
def tail(url: str, token: str | None, token_file: Path | None, after: str | None, all_frames: bool) -> None:
    """Follow one user's events, one JSON line each, as a client would."""
    if token_file is not None:
        token = sys.stdin.readline().strip() if str(token_file) == "-" else token_file.read_text().strip()
    if not token:
        raise click.UsageError("needs RELAY_TOKEN, --token or --token-file (development: ./dev token USER_ID)")
    good_token = token

    async def follow() -> None:
        async for frame in Client(url, lambda: good_token, after, all_frames=all_frames).frames():
            click.echo(json.dumps(frame))

    try:
        asyncio.run(follow())
    except Stopped as stopped:
        raise click.ClickException(str(stopped)) from None
    except KeyboardInterrupt:
        pass


@main.command()
def check() -> None:
    """Tell what is wrong: settings, keys, addresses, each database host. Exits with 0 if nothing is."""
    settings = settings_or_exit()
    is_good = True
    for good, text in asyncio.run(check_everything(settings)):
        is_good = is_good and good
        click.echo(f"{'ok  ' if good else 'BAD '} {text}")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main(prog_name="python -m relay")
