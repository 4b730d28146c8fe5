"""The systemd units: accepted by systemd's own checks; the relay says when it is ready and takes systemd's socket."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

from tests.helpers import REPO, SECRET, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Instance

UNITS = REPO / "docs" / "systemd"
START = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$1" -m relay 3<&"$2"'


def test_units_are_valid_and_confine_their_processes(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        # the paths of the unit are those of an installation; here they need only exist
        text = re.sub(r"/opt/after-hours/bin/after-hours|/usr/bin/test", str(shutil.which("true")), unit.read_text())
        (tmp_path / unit.name).write_text(text)
    units = [str(tmp_path / unit.name) for unit in UNITS.iterdir()]
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    found = [line for line in checked.stderr.splitlines() if "after-hours" in line]
    assert (checked.returncode, found) == (0, [])
    for service in tmp_path.glob("*.service"):
        security = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(service)],
            capture_output=True,
            text=True,
        )
        assert security.returncode == 0, security.stdout  # exposure 2.0 of 10 at most


def test_the_relay_serves_on_the_socket_it_is_given_and_says_when(instance: Instance, tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        listening.set_inheritable(True)
        environment = {
            "RELAY_DSN": instance.dsn("after_hours_relay"), "RELAY_JWT_SECRET": SECRET,
            "RELAY_BIND": f"127.0.0.1:{free_port()}", "RELAY_ADMIN_BIND": f"127.0.0.1:{free_port()}",
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
        }  # fmt: skip
        port = listening.getsockname()[1]
        command = ["bash", "-c", START, "bash", sys.executable, str(listening.fileno())]
        with subprocess.Popen(command, cwd=REPO, env=environment, pass_fds=[listening.fileno()]) as relay:
            try:
                assert manager.recv(100) == b"READY=1"
                assert httpx.get(f"http://127.0.0.1:{port}/livez").json() == {"alive": True}
                relay.terminate()
                assert manager.recv(100) == b"STOPPING=1"
                assert relay.wait(20) == 0
            finally:
                relay.kill()
        # the address outlives the relay: a client that comes now waits for the next one
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
