"""The wheel in an empty venv: installs the database, serves a warning, purges; by the command after-hours alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import uuid
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import REPO, SECRET, free_port, make_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Instance

IMPORT_ALL = """
import importlib, pkgutil, relay
for module in pkgutil.walk_packages(relay.__path__, "relay."):
    if not module.name.endswith("__main__"):
        print(importlib.import_module(module.name).__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place), str(REPO)]
    subprocess.run(pip, check=True, capture_output=True, timeout=100)
    (found,) = place.glob("after_hours-*.whl")
    return found


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of a venv that holds the wheel and what it needs, nothing else."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=100)
    install = [f"{venv}/bin/pip", "install", "--quiet", "-c", f"{REPO}/constraints.txt", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    return venv / "bin"


def test_one_version_for_all_that_is_shipped() -> None:
    version = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]
    shipped = {
        path.parent.name: json.loads(path.read_text())["version"] for path in REPO.glob("clients/*/package.json")
    }
    assert shipped == {"browser": version, "socketio": version}


def clean_environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "PYTHON", "PG"))}
    return {**kept, **more}


def test_the_wheel_holds_each_file_of_sql_and_alembic_once(wheel: Path) -> None:
    files = [path for top in ("sql", "alembic") for path in (REPO / top).rglob("*.*") if path.suffix != ".pyc"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for path in filter(Path.is_file, files):
            assert archive.read(f"after_hours/{path.relative_to(REPO)}") == path.read_bytes()
    assert sum(name.endswith(".sql") for name in names) == sum(path.suffix == ".sql" for path in files)
    assert not [name for name in names if name.endswith(".pyc")]
    assert not [name for name in names if name.startswith(("tests/", "demo/", "clients/", "alembic/", "sql/"))]


@pytest.mark.timeout(600)
def test_from_the_wheel_to_a_warning_and_a_purge(
    programs: Path, make_instance: Callable[..., Instance], tmp_path: Path
) -> None:
    instance = make_instance("cluster")
    environment = clean_environment(AFTER_HOURS_DSN=instance.dsn())

    def run(*arguments: str, code: int = 0) -> str:
        command = [f"{programs}/after-hours", *arguments]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert result.returncode == code, result.stderr
        return result.stdout + (result.stderr if code else "")

    modules = subprocess.run([programs / "python", "-c", IMPORT_ALL], cwd=tmp_path, capture_output=True, text=True)
    files = modules.stdout.split()
    assert modules.returncode == 0, modules.stderr
    assert len(files) > 40
    assert all(f"{programs.parent}/" in file for file in files)

    run("migrate", "--to", "base", "--yes")
    assert "HINT: after-hours preflight" in run("doctor", code=1)
    assert "nothing is missing" in run("preflight")
    assert "installed" in run("migrate")
    printed = run("sql")
    assert printed.count("create or replace function after_hours.announce_due(") == 2, (
        "run once, kept in the ledger once"
    )

    port, admin = free_port(), free_port()
    serving = clean_environment(
        RELAY_DSN=instance.dsn("after_hours_relay"), RELAY_JWT_SECRET=SECRET,
        RELAY_BIND=f"127.0.0.1:{port}", RELAY_ADMIN_BIND=f"127.0.0.1:{admin}",
    )  # fmt: skip
    user = str(uuid.uuid4())
    url = f"ws://127.0.0.1:{port}/ws"
    with subprocess.Popen([programs / "after-hours", "serve"], cwd=tmp_path, env=serving) as relay:
        try:
            tail = [f"{programs}/after-hours", "tail", url, "--all"]
            tailing = clean_environment(RELAY_TOKEN=make_token(user))
            with subprocess.Popen(tail, cwd=tmp_path, env=tailing, stdout=subprocess.PIPE) as following:
                assert following.stdout
                assert json.loads(following.stdout.readline())["type"] == "hello"
                with instance.connect("after_hours_app") as app:
                    app.execute("select after_hours.start_session(%s, '90 seconds')", (user,))
                with instance.connect() as db:
                    db.execute("select after_hours.announce_due()")
                frame = json.loads(following.stdout.readline())
                following.terminate()
            assert frame["type"] == "after_hours:session_expiring"
        finally:
            relay.terminate()

    with instance.connect() as db:
        db.execute(
            "insert into public.after_hours_matches (id, user_a, user_b, created_at, expires_at) "
            "select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now() - interval '90 days', now() - interval '31 days' "
            "from generate_series(1, 3)"
        )
    preview = json.loads(run("purge", "--preview", "--json"))
    assert sum(row["matches"] for row in preview if row["section"] == "due") == 3
    report = json.loads(run("purge", "--now", "--yes", "--json"))
    assert (report["run"]["status"], report["run"]["matches"]) == ("succeeded", 3)
    assert report["receipt"][0]["is_verified"]
    assert "nothing is overdue" in run("purge", "--now", code=1)

    # the exit code says what the rows say
    shown = subprocess.run(
        [programs / "after-hours", "status", "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    health: list[dict[str, Any]] = json.loads(shown.stdout)["health"]
    assert len(health) > 10
    assert shown.returncode == int(any(not row["ok"] for row in health))
