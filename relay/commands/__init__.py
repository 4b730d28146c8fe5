"""The command line: after-hours COMMAND. Each module holds the commands of one subject; none can make a token."""

from __future__ import annotations

from importlib import import_module

import click

MODULES = {
    "preflight": "migrate",
    "migrate": "migrate",
    "sql": "migrate",
    "serve": "serve",
    "check": "serve",
    "tail": "tail",
    "status": "inspect",
    "doctor": "inspect",
    "purge": "purge",
    "tick": "tick",
    "push": "push",
}
EPILOG = """\b
The database is named by AFTER_HOURS_DSN (a URL or libpq keywords), else by libpq's own PG… variables.
The relay's own settings are RELAY_… variables: docs/configuration.md.

\b
Examples:
  after-hours preflight                  what the installation still needs, as statements to paste
  after-hours migrate                    install, or upgrade to this version
  after-hours sql > upgrade.sql          the same as one file for psql
  after-hours serve                      the relay
  after-hours doctor --json | jq '.[] | select(.ok | not)'
  after-hours purge --preview            what a purge would delete now

\b
Exit codes: 0 done, or nothing is wrong; 1 refused, failed, or something is wrong; 2 wrong usage, settings or
connection; 130 interrupted.
Completion: eval "$(_AFTER_HOURS_COMPLETE=bash_source after-hours)"   (also zsh_source, fish_source)
"""


class Commands(click.Group):
    """Loads a command's module when it is called: the relay's process stays without alembic."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one needs them."""
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """None if there is no such command."""
        if cmd_name not in MODULES:
            return None
        found: click.Command = getattr(import_module(f"relay.commands.{MODULES[cmd_name]}"), cmd_name)
        return found


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="after-hours", message="%(prog)s %(version)s")
def main() -> None:
    """Ephemeral chat sessions: install and inspect the stored logic, run the relay."""
