"""after-hours tail: one user's events in a terminal."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import click

from relay.client import Client, Stopped


@click.command()
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
        this = asyncio.current_task()
        assert this
        # asyncio.run()'s handler has no wake-up descriptor: a Ctrl-C just before the loop sleeps waits for a frame.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, this.cancel)
        async for frame in Client(url, lambda: good_token, after, all_frames=all_frames).frames():
            click.echo(json.dumps(frame))

    try:
        asyncio.run(follow())
    except Stopped as stopped:
        raise click.ClickException(str(stopped)) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
