"""One instance with everything ./dev up starts, for the tests that look from outside."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import REPO

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Instance

BRIDGE = REPO / "clients" / "socketio"


@pytest.fixture(scope="session")
def running(make_instance: Callable[..., Instance]) -> Instance:
    """PostgreSQL with pg_cron's loops, the demo page, and a relay that drains quickly, as tests restart it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RELAY_DRAIN_SECONDS", "3")
        return make_instance("up", "--detach")


@pytest.fixture(scope="session")
def scratch() -> Path:
    """The client and the bridge with their npm packages; installed once for each set of versions."""
    versions = hashlib.sha256((BRIDGE / "package.json").read_bytes()).hexdigest()[:8]
    root = REPO / ".local" / "npm" / versions
    folder = root / BRIDGE.name
    for client in (REPO / "clients" / "browser", BRIDGE):
        shutil.copytree(client, root / client.name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    # the example of docs/protocol.md has the client beside it
    for file in (REPO / "clients" / "browser" / "after-hours.js", Path(__file__).parent / "socketio-client.mjs"):
        shutil.copy(file, folder)
    with (root / "lock").open("w") as lock:  # of the processes of one run
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "node_modules" / "installed").exists():
            command = "npm install --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error"
            subprocess.run(command.split(), cwd=folder, check=True, timeout=100)
            (folder / "node_modules" / "installed").touch()
    return folder
