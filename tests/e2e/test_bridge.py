"""The Socket.IO bridge: clients of before get the events they know, only with a good token, also after a short drop."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.helpers import REPO, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Instance


@contextmanager
def node(folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A Node.js program, for as long as it is needed."""
    process = subprocess.Popen(
        ["node", *arguments],
        cwd=folder, env={**os.environ, **environment}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def bridge(scratch: Path, running: Instance) -> Iterator[str]:
    """Where the bridge listens."""
    relay, port = f"ws://127.0.0.1:{running.ports['RELAY_PORT']}/ws", str(free_port())
    with node(scratch, "bridge.mjs", RELAY_URL=relay, PORT=port) as process:
        assert process.stdout is not None
        assert "listening" in process.stdout.readline()
        yield f"http://127.0.0.1:{port}"


def hears(client: subprocess.Popen[str]) -> dict[str, Any]:
    """The next thing the client says."""
    assert client.stdout is not None
    said: dict[str, Any] = json.loads(client.stdout.readline())
    return said


def heard(client: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """The next thing the client says, which is to be this."""
    said = hears(client)
    assert said.pop("name") == name, said
    return said


def test_warned_and_told_as_before_also_after_a_drop(scratch: Path, bridge: str, running: Instance) -> None:
    user = str(uuid4())
    with (
        running.connect("after_hours_app") as app,
        node(scratch, "socketio-client.mjs", bridge, running.dev("token", user).stdout.strip()) as client,
    ):
        assert heard(client, "connect") == {"recovered": False}
        session = app.execute("select * from after_hours.start_session(%s, '90 s')", (user,)).fetchone()
        assert session is not None
        warning = heard(client, "after_hours:session_expiring")
        assert set(warning) == {"id", "sessionId", "expiresAt", "minutesRemaining", "emittedAt"}
        assert (warning["sessionId"], warning["minutesRemaining"]) == (str(session.id), 2)

        assert client.stdin is not None
        client.stdin.write("drop\n")
        client.stdin.flush()
        heard(client, "disconnect")
        app.execute("select after_hours.end_session(%s, 'left')", (session.id,))
        # Socket.IO may hand out what was missed before it says that it is connected
        said = {said.pop("name"): said for said in (hears(client), hears(client))}
        assert said["connect"] == {"recovered": True}
        end = said["after_hours:session_expired"]
        assert set(end) == {"id", "sessionId", "expiresAt", "reason", "emittedAt"}
        assert (end["sessionId"], end["reason"]) == (str(session.id), "ended")


def test_a_bad_token_is_refused_as_clients_know_it(scratch: Path, bridge: str) -> None:
    with node(scratch, "socketio-client.mjs", bridge, "not.a.token") as client:
        assert heard(client, "connect_error") == {"message": "the token is not accepted"}


def packed(folder: Path) -> set[str]:
    """The files that `npm pack` would publish from a folder."""
    result = subprocess.run(
        ["npm", "pack", "--dry-run", "--json"], cwd=folder, check=True, capture_output=True, text=True, timeout=60
    )
    told = json.loads(result.stdout)
    (package,) = told if isinstance(told, list) else told.values()  # a list up to npm 10, by name since npm 11
    return {file["path"] for file in package["files"]}


def test_packages_are_complete(scratch: Path) -> None:
    client = {"README.md", "after-hours.d.ts", "after-hours.js", "package.json"}
    assert packed(REPO / "clients" / "browser") == client
    bundled = {f"node_modules/@after-hours/client/{name}" for name in client}
    assert packed(scratch) == {"README.md", "bridge.mjs", "package.json"} | bundled


def test_bridge_stays_below_80_lines() -> None:
    assert len((REPO / "clients" / "socketio" / "bridge.mjs").read_text().splitlines()) <= 80
