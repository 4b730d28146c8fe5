"""The errors people meet first: each provoked for real, each answered with what to do."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import REPO, free_port

if TYPE_CHECKING:
    from tests.conftest import Instance

SECRET = "s" * 32


def alembic(dsn: str) -> str:
    """What alembic upgrade head says when it fails."""
    result = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=REPO, env={**os.environ, "AFTER_HOURS_DSN": dsn}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


def relay(**settings: str) -> str:
    """The message of python -m relay when it exits at start."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RELAY_")}
    given = {"RELAY_DSN": "postgresql://x@127.0.0.1:1/x", "RELAY_JWT_SECRET": SECRET, "RELAY_JWT_AUDIENCE": "a"}
    given |= {f"RELAY_{name.upper()}": value for name, value in settings.items()}
    result = subprocess.run(
        [sys.executable, "-m", "relay"],
        cwd=REPO, env=environment | {k: v for k, v in given.items() if v}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def broken(make_instance: Callable[..., Instance]) -> Instance:
    """An instance to be spoiled."""
    return make_instance("cluster")


def test_no_server_there() -> None:
    said = alembic(f"postgresql://postgres@127.0.0.1:{free_port()}/after_hours")
    assert "no connection" in said
    assert "Set AFTER_HOURS_DSN" in said


def test_wrong_database(broken: Instance) -> None:
    with broken.connect() as db:
        db.execute("create database elsewhere")
    said = alembic(broken.dsn(database="elsewhere"))
    assert "or install into after_hours, where pg_cron runs" in said
    assert "create extension" not in said


def test_name_too_long(broken: Instance) -> None:
    name = "a_database_whose_name_is_longer_than_pg_cron_likes"
    with broken.connect() as db:
        db.execute(f"create database {name}")
    assert "choose a database with a name of at most 36 bytes" in alembic(broken.dsn(database=name))


def test_insufficient_role(broken: Instance) -> None:
    with broken.connect() as db:
        db.execute("create database poor")
        db.execute("create role after_hours_stranger login")
        db.execute("grant all on database poor to after_hours_stranger")
    with broken.connect(dbname="poor") as db:
        db.execute("grant all on schema public to after_hours_stranger")
    said = alembic(broken.dsn("after_hours_stranger", "poor"))
    assert "nothing has been changed (AH032)" in said
    assert re.search(r"    grant after_hours_owner to after_hours_stranger( with .*)?;", said), (
        "16 and later name the options"
    )


def test_pg_cron_not_loaded(make_instance: Callable[..., Instance]) -> None:
    spoiled = make_instance("cluster")
    dsn = spoiled.dsn()
    with spoiled.connect() as db:
        version = db.execute("show server_version_num").fetchone()
        data = db.execute("show data_directory").fetchone()
        assert version is not None
        assert data is not None
        db.execute(
            "drop schema after_hours cascade; drop extension pg_cron; drop table public.after_hours_alembic_version"
        )
        db.execute("alter system set shared_preload_libraries = 'auto_explain'")
        binaries = db.execute("select setting from pg_config() where name = 'BINDIR'").fetchone()
        assert binaries is not None
    become = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    control = [*become, str(Path(binaries[0]) / "pg_ctl"), "-w", "-D", data[0]]
    subprocess.run([*control, "-m", "fast", "stop"], cwd="/", check=True, capture_output=True)
    subprocess.run([*control, "-l", f"{data[0]}/again.log", "start"], cwd="/", check=True, stdout=subprocess.DEVNULL)
    said = alembic(dsn)
    assert "In the configuration of the server:\n    shared_preload_libraries = 'pg_cron'" in said


def test_port_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        home = REPO / ".local" / "test" / "taken"
        result = subprocess.run(
            [REPO / "dev", "up", "--detach"], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
            env={**os.environ, "AFTER_HOURS_HOME": str(home), "AFTER_HOURS_PG_PORT": str(free_port()), "RELAY_PORT": port,
                 "RELAY_ADMIN_PORT": str(free_port()), "DEMO_PORT": str(free_port())},
        )  # fmt: skip
    subprocess.run(
        [REPO / "dev", "down", "--delete"], env={**os.environ, "AFTER_HOURS_HOME": str(home)}, capture_output=True
    )
    assert result.returncode != 0
    assert "RELAY_PORT" in result.stderr
    assert port in result.stderr


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"jwt_secret": ""}, "RELAY_JWT_SECRET"),
        ({"jwt_secret": "short"}, "RELAY_JWT_SECRET"),
        ({"dsn": ""}, "RELAY_DSN"),
        ({"dsn": "not a dsn"}, "RELAY_DSN"),
        ({"jwt_secret": "development-only-" + "0" * 32, "bind": "0.0.0.0:0"}, "RELAY_BIND"),
        ({"bind": "nonsense"}, "RELAY_BIND"),
    ],
)
def test_a_bad_setting_is_refused_with_its_name(settings: dict[str, str], variable: str) -> None:
    assert variable in relay(**settings)
