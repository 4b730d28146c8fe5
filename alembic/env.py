"""Applies sql/: the revisions first, then all of install.sql in one transaction. Its only own SQL is the ledger's.

Targets are head, one step back (-1) and base; anything else would leave routines and tables of different ages.
The connection comes from AFTER_HOURS_DSN (libpq keywords or URL), else from libpq's own PG… variables.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import psycopg
from alembic import context
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from apply import SQL, install_text, read, stored_text, tree_hash
from psycopg import sql
from routines import install, latest
from sqlalchemy import create_engine, pool
from sqlalchemy.exc import DBAPIError

from relay.dsn import DsnError, prepare_dsn

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = (
    "search_path = pg_catalog, pg_temp",  # nothing that others made in public is found
    "client_encoding = 'UTF8'",
    "standard_conforming_strings = on",
    "row_security = on",
    "statement_timeout = 0",
    "default_transaction_isolation = 'read committed'",
)
# The application may use Alembic with its defaults: its alembic_version is never touched.
VERSION_TABLE, VERSION_SCHEMA = "after_hours_alembic_version", "public"
SCHEDULER = os.environ.get("AFTER_HOURS_SCHEDULER", "pg_cron")  # ticker: a first installation without pg_cron
VERSIONS = sql.Identifier(VERSION_SCHEMA, VERSION_TABLE)
KEY = 716253841  # of an advisory lock; random
# Without parameters: by the extended protocol the last statement would keep its snapshot, for which CREATE INDEX
# CONCURRENTLY waits.
TAKE_LOCK = f"select pg_try_advisory_xact_lock({KEY})"
LOCK_HOLDER = """
    select a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'unnamed'), date_trunc('second', a.xact_start)
    from pg_locks as l
    join pg_stat_activity as a on a.pid = l.pid
    where l.locktype = 'advisory' and l.granted and l.classid = 0 and l.objid = KEY and a.datname = current_database()
""".replace("KEY", str(KEY))
WAIT_SECONDS = 600


def command() -> tuple[str, str]:
    """Name and target of the alembic command that runs this file, e.g. ("upgrade", "head")."""
    options = context.config.cmd_opts
    if options is None or not getattr(options, "cmd", None):
        return "", ""
    return options.cmd[0].__name__, str(getattr(options, "revision", ""))


def wait_seconds() -> float:
    """How long others may be waited for: after-hours migrate --wait, alembic -x wait=SECONDS."""
    given = context.config.attributes.get("wait")
    if given is None:
        given = dict(item.split("=", 1) for item in getattr(context.config.cmd_opts, "x", None) or []).get("wait")
    return WAIT_SECONDS if given is None else float(given)


def refuse_other_targets(name: str, target: str) -> None:
    """Only head, -1 and base lead to a schema whose routines are known. Raises CommandError for anything else."""
    allowed = {"upgrade": {"head", "heads"}, "downgrade": {"-1", "base"}}.get(name)
    if allowed is not None and target not in allowed:
        raise CommandError(
            f"alembic {name} {target}: refused, as routines and tables would be of different ages. "
            "Use: upgrade head, downgrade -1 or downgrade base."
        )


def log_notice(diagnostic: psycopg.errors.Diagnostic) -> None:
    """The server's notices say what was adopted or skipped: they belong on the screen."""
    if diagnostic.severity_nonlocalized != "DEBUG":
        print(f"{diagnostic.severity}: {diagnostic.message_primary}", file=sys.stderr)


def connect() -> psycopg.Connection[Any]:
    try:
        dsn = prepare_dsn(os.environ.get("AFTER_HOURS_DSN", ""))
        connection = psycopg.connect(dsn, fallback_application_name="alembic")
        # what a database or a role may have as its default, and the files of sql/ do not expect
        for setting in SETTINGS:
            connection.execute(f"set {setting}".encode())
        connection.execute("select pg_catalog.set_config('after_hours.scheduler', %s, false)", (SCHEDULER,))
        connection.commit()
    except DsnError as error:
        raise CommandError(f"AFTER_HOURS_DSN: {error}") from None
    except psycopg.Error as error:
        raise CommandError(
            f"no connection: {error}\n"
            "Set AFTER_HOURS_DSN (for an instance of ./dev: AFTER_HOURS_DSN=$(./dev dsn)), then repeat."
        ) from None
    connection.add_notice_handler(log_notice)
    return connection


@contextmanager
def alone() -> Iterator[None]:
    """One migration of this database at a time; says for whom it waits. Raises CommandError after wait_seconds().

    A lock of a transaction on a connection of its own: it ends with this process, and holds behind any pooler. Before
    the first installation there is no table that could be locked instead.
    """
    with connect() as keeper:
        keeper.execute("set idle_in_transaction_session_timeout = 0")
        keeper.commit()
        deadline, told = time.monotonic() + wait_seconds(), None
        while keeper.execute(TAKE_LOCK).fetchone() != (True,):
            holder = keeper.execute(LOCK_HOLDER).fetchone()
            keeper.rollback()
            if holder and holder != told:
                told = holder
                print("waiting for another migration: pid {}, role {}, {}, since {}".format(*holder), file=sys.stderr)
            if time.monotonic() > deadline:
                raise CommandError(
                    f"another migration has run for {wait_seconds():g} s. "
                    f"If it hangs: select pg_terminate_backend({holder[0] if holder else '…'}); then repeat."
                )
            time.sleep(0.2)
        yield


def explain(error: psycopg.Error) -> CommandError:
    """The server's error with its DETAIL and HINT, which say what to do; the place in our code says nothing."""
    told = error.diag
    lines = [f"{told.message_primary or error} ({error.sqlstate})"]
    lines += [
        f"{name}: {text}" for name, text in (("DETAIL", told.message_detail), ("HINT", told.message_hint)) if text
    ]
    return CommandError("\n".join(lines))


def text_after_downgrade(
    connection: psycopg.Connection[Any], script: ScriptDirectory, left: str, now: str
) -> str | None:
    """The routines for one step back: as stored when the database last was there, else as they are, if the revision
    left behind says that they run there as well. Raises CommandError where neither holds."""
    text = stored_text(connection, now)
    if text is not None:
        return text
    if getattr(script.get_revision(left).module, "routines_run_one_step_back", False):
        return None
    raise CommandError(
        f"no routines of revision {now} are stored: this database was installed at {left} directly. "
        "Check out the sources of that revision and run alembic upgrade head there after restoring a backup."
    )


def stamp(connection: psycopg.Connection[Any]) -> None:
    """Make the table of revisions again from the ledger: a tool of the application may drop or empty it."""
    revision, _ = latest(connection)
    if not revision:
        return
    made = sql.SQL("create table if not exists {} (version_num varchar(32) primary key)")
    connection.execute(made.format(VERSIONS))
    if connection.execute(sql.SQL("select from {}").format(VERSIONS)).fetchone() is None:
        connection.execute(sql.SQL("insert into {} values (%s)").format(VERSIONS), (revision,))
        print(f"NOTICE: {VERSION_TABLE} was empty: this database is at revision {revision}", file=sys.stderr)


def run_offline(name: str, target: str) -> None:
    context.configure(
        dialect_name="postgresql",
        transaction_per_migration=True,
        version_table=VERSION_TABLE,
        version_table_schema=VERSION_SCHEMA,
    )
    print(f"set {SETTINGS[0]};\n")
    if name == "upgrade":
        print(read(SQL / "preflight.sql"))
        print(read(SQL / "roles.sql"))
    context.run_migrations()
    if name == "upgrade":
        text = install_text()
        head = ScriptDirectory.from_config(context.config).get_current_head()
        print(f"BEGIN;\n\n{text}\n")
        print(
            "insert into after_hours.sql_ledger (revision, tree_hash, sql_text)\n"
            f"values ('{head}', '{tree_hash(text)}', $ledger${text}$ledger$);\n\nCOMMIT;\n"
        )
    elif name == "downgrade" and not target.endswith("base"):
        print("-- The routines of one step back are stored in the database: after_hours.sql_ledger.sql_text.")


def run_online(name: str, target: str) -> None:
    script = ScriptDirectory.from_config(context.config)
    with connect() as raw:
        if name == "upgrade":
            raw.execute(read(SQL / "preflight.sql").encode())
            if context.config.attributes.get("preflight_only"):
                return
            raw.execute(read(SQL / "roles.sql").encode())
        elif raw.execute("select to_regnamespace('after_hours')").fetchone() == (None,):
            context.config.attributes["nothing"] = True  # whatever the table of revisions says
            raw.execute(sql.SQL("drop table if exists {}").format(VERSIONS))
            return
        stamp(raw)
    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            transaction_per_migration=True,
            version_table=VERSION_TABLE,
            version_table_schema=VERSION_SCHEMA,
        )
        before = context.get_context().get_current_revision()
        connection.rollback()
        context.run_migrations()
        after = context.get_context().get_current_revision()
        connection.rollback()
    if name == "upgrade" and after is not None:
        with connect() as raw:
            install(raw, after, wait_seconds())
    elif name == "downgrade" and target == "-1" and before and after:
        with connect() as raw:
            text = text_after_downgrade(raw, script, before, after)
            if text is not None:
                install(raw, after, wait_seconds(), text)


name, target = command()
if context.is_offline_mode():
    run_offline(name, target)
else:
    refuse_other_targets(name, target)
    try:
        with alone() if name in {"upgrade", "downgrade"} else nullcontext():
            run_online(name, target)
    except psycopg.Error as error:
        raise explain(error) from None
    except DBAPIError as error:  # of alembic's own statements, through SQLAlchemy
        raise explain(error.orig) if isinstance(error.orig, psycopg.Error) else error from None
