"""after-hours preflight, migrate and sql: alembic with the revisions and the SQL that belong to this version."""

from __future__ import annotations

import contextlib
import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

import relay

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(relay.__file__).parent.parent
# in a wheel alembic/ and sql/ lie in a directory of their own, beside relay/; in a checkout at the top
SOURCES = TOP / "after_hours" if (TOP / "after_hours" / "alembic").is_dir() else TOP


def configured(name: str, target: str) -> Config:
    """Alembic's configuration as its own command line would make it; env.py reads cmd_opts."""
    config = Config(cmd_opts=Namespace(cmd=(getattr(command, name), [], []), revision=target))
    config.set_main_option("script_location", str(SOURCES / "alembic").replace("%", "%%"))
    config.set_main_option("prepend_sys_path", str(SOURCES / "alembic").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return config


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what alembic and env.py refuse into the message alone. Exit code 1."""
    try:
        yield
    except CommandError as error:
        raise click.ClickException(str(error)) from None


@click.command()
def preflight() -> None:
    """Ask for everything an installation needs, at once; changes nothing.

    What is missing is told as statements to paste, each with who must run it. Exits with 1 if something is.
    """
    config = configured("upgrade", "head")
    config.attributes["preflight_only"] = True
    with told():
        command.upgrade(config, "head")
    click.echo("nothing is missing; next: after-hours migrate")


@click.command()
@click.option(
    "--to",
    "target",
    type=click.Choice(["head", "-1", "base"]),
    default="head",
    help="head: this version (the default). -1: one revision back. base: remove the stored logic, keep your tables.",
)
@click.option("--ticker", is_flag=True, help="A first installation without pg_cron: after-hours tick runs the jobs.")
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=600,
    show_default=True,
    help="Seconds in which it waits for others' locks.",
)
@click.option("--yes", is_flag=True, help="Do not ask before --to base.")
def migrate(target: str, ticker: bool, wait: float, yes: bool) -> None:
    """Install the stored logic, or bring it to this version. Safe to repeat; asks for what is missing first."""
    if ticker:
        os.environ["AFTER_HOURS_SCHEDULER"] = "ticker"
    if target == "base" and not yes:
        click.confirm(
            "This removes schema after_hours with its events; holds, blocks, settings and evidence wait for the next "
            "installation. Go on?",
            abort=True,
        )
    with told():
        config = configured("upgrade" if target == "head" else "downgrade", target)
        config.attributes["wait"] = wait
        (command.upgrade if target == "head" else command.downgrade)(config, target)
    if config.attributes.get("nothing"):
        click.echo("nothing to remove: there is no schema after_hours in this database")
        return
    click.echo({"head": "installed; next: after-hours doctor", "-1": "one revision back", "base": "removed"}[target])


@click.command()
def sql() -> None:
    """Print what migrate would run on an empty database: psql -v ON_ERROR_STOP=1 -f FILE reaches the same schema."""
    with told():
        command.upgrade(configured("upgrade", "head"), "head", sql=True)
