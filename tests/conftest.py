"""Fixtures for all tests: private PostgreSQL instances created by ./dev, a clean database for each test."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from tests.helpers import REPO as REPO
from tests.helpers import free_port as free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Instance:
    """A private instance with its own state directory and ports."""

    home: Path
    ports: dict[str, str]

    def dev(self, *arguments: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run ./dev for this instance. With check, a failure raises AssertionError with its output."""
        environment = {**os.environ, "AFTER_HOURS_HOME": str(self.home), **self.ports}
        result = subprocess.run(
            [str(REPO / "dev"), *arguments],
            env=environment, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check and result.returncode:
            raise AssertionError(f"./dev {' '.join(arguments)}: {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def dsn(self, role: str = "postgres", database: str = "after_hours") -> str:
        """Return the connection string of a role: socket and peer authentication."""
        dsn = self.dev("dsn").stdout.strip()
        return dsn.replace("//postgres@/after_hours", f"//{role}@/{database}")

    def connect(self, role: str = "postgres", **options: Any) -> Connection:
        """Connect as a role: autocommit, rows as named tuples."""
        options.setdefault("autocommit", True)
        return psycopg.connect(self.dsn(role), row_factory=namedtuple_row, **options)

    def alembic(self, *arguments: str, check: bool = True, cwd: Path = REPO) -> subprocess.CompletedProcess[str]:
        """Run alembic for this instance. With check, a failure raises AssertionError with its output."""
        result = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=cwd, env={**os.environ, "AFTER_HOURS_DSN": self.dsn()}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert not check or result.returncode == 0, result.stdout[:2000] + result.stderr
        return result

    def stop_jobs(self) -> None:
        """Unschedule pg_cron's jobs and end those that run."""
        with self.connect() as connection:
            connection.execute("select after_hours.uninstall_jobs()")
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'call after_hours%'"
            )


@pytest.fixture(scope="session")
def make_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Instance]]:
    """Return a factory of instances; all are stopped and deleted at the end of the run."""
    with ExitStack() as stack:

        def make(*command: str) -> Instance:
            home = REPO / ".local" / "test" / uuid.uuid4().hex[:8]
            names = ("AFTER_HOURS_PG_PORT", "RELAY_PORT", "RELAY_ADMIN_PORT", "DEMO_PORT")
            instance = Instance(home, {name: str(free_port()) for name in names})
            stack.callback(instance.dev, "down", "--delete", check=False)
            instance.dev(*(command or ("cluster",)))
            return instance

        yield make


@pytest.fixture(scope="session")
def instance(make_instance: Callable[..., Instance]) -> Instance:
    """PostgreSQL with the schema and without scheduled jobs, shared by the tests of a run."""
    made = make_instance("cluster")
    made.stop_jobs()
    with made.connect() as connection:
        connection.execute("create role after_hours_stranger login")
    return made


# the emitter first: a running pass has locked it and will lock the other tables
RESET = """
    lock table after_hours.emitter in access exclusive mode;
    truncate public.after_hours_sessions, public.after_hours_matches, public.after_hours_messages, {tables}
    restart identity cascade;
    insert into after_hours.settings (announce_since) values ('2000-01-01Z');
    insert into after_hours.emitter default values;
    insert into after_hours.event_floor default values;
    insert into after_hours.evidence_chain default values;
    insert into after_hours.epochs (name, last_id, system_identifier, server_started_at)
    select 'aaaaaaaa', 0, c.system_identifier, pg_postmaster_start_time() from pg_control_system() as c;
    insert into after_hours.epoch_marker values ('aaaaaaaa')
"""
KEPT = ("sql_ledger", "sql_objects", "job_plan", "noted_owners")


def reset(connection: Connection) -> None:
    """Reset all tables to the state of a new installation, with the epoch aaaaaaaa and announce_since far in the past."""
    rows = connection.execute(
        "select c.oid::regclass::text from pg_class as c where c.relnamespace = 'after_hours'::regnamespace "
        "and c.relkind = 'r' and c.relname <> all(%s)",
        (list(KEPT),),
    ).fetchall()
    connection.execute(RESET.format(tables=", ".join(row[0] for row in rows)))


@pytest.fixture
def db(instance: Instance) -> Iterator[Connection]:
    """A superuser connection to a clean database."""
    with instance.connect() as connection:
        reset(connection)
        yield connection


@pytest.fixture
def connect(instance: Instance, db: Connection) -> Iterator[Callable[..., Connection]]:
    """Return a factory of connections by role to the same clean database. They are closed after the test."""
    with ExitStack() as stack:

        def make(role: str = "postgres", **options: Any) -> Connection:
            return stack.enter_context(instance.connect(role, **options))

        yield make
