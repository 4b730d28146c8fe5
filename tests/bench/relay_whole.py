"""The whole relay under the bench's load client: tokens, batched attach, PostgreSQL; each step's price."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from tests.bench.relay_client import Swarm
from tests.conftest import Instance
from tests.helpers import REPO, SECRET, free_port, make_token

if TYPE_CHECKING:
    from contextlib import ExitStack

MARKER = b"session_expired"
ROUNDS, SINGLES = 8, 300
TICK = os.sysconf("SC_CLK_TCK")


def whole_relay(stack: ExitStack, count: int, core: set[int]) -> dict[str, Any]:
    """A table of figures; the database shares the load client's core."""
    home = Path(f"/tmp/ah-bench-{uuid.uuid4().hex[:6]}")  # noqa: S108
    names = ("AFTER_HOURS_PG_PORT", "RELAY_PORT", "RELAY_ADMIN_PORT", "DEMO_PORT")
    instance = Instance(home, {name: str(free_port()) for name in names})
    stack.callback(instance.dev, "down", "--delete", check=False)
    instance.dev("cluster")
    db = stack.enter_context(instance.connect())
    db.execute("select after_hours.uninstall_jobs()")
    rows: list[list[str]] = []
    users = [str(uuid.uuid4()) for _ in range(count)]
    headers = [f"Authorization: Bearer {make_token(user)}\r\n" for user in users]
    process, port = start(instance, core, {"RELAY_MAX_HANDSHAKES": "1000000"})
    stack.callback(process.wait)
    stack.callback(process.kill)
    before, cpu = resident(process.pid), cpu_of(process.pid)
    swarm = Swarm(port)
    stack.callback(swarm.close)
    seconds = swarm.connect(["/ws"] * count, headers, until=b'"type":"hello"')
    spent = (cpu_of(process.pid) - cpu) / count * 1e6
    time.sleep(2)
    rows.append(["handshakes/s to `hello`: HS256 token, attach in batches", f"{count / seconds:,.0f}", f"{spent:.0f}"])
    rows.append(["kB per idle client", f"{(resident(process.pid) - before) / count / 1000:.1f}", ""])
    by_user = {user: number for number, user in enumerate(users)}
    late, costs, rates = [], [], []
    for _ in range(ROUNDS):
        expire(db, list(by_user))
        cpu = cpu_of(process.pid)
        began = time.monotonic()
        announce(db)
        said = time.monotonic()
        instants = swarm.collect(count, MARKER)
        late.append(instants[-1] - began)
        rates.append(count / (instants[-1] - instants[0]))
        costs.append((cpu_of(process.pid) - cpu) / count * 1e6)
        del said
        time.sleep(1.5)  # receipts are written
    rows.append(
        [
            f"SQL → last of {count:,} clients, one event each: ms, from the statement",
            f"{statistics.median(late) * 1000:.0f}",
            f"{statistics.median(costs):.1f}",
        ]
    )
    rows.append(["… of these frames/s, first to last", f"{statistics.median(rates) / 1000:.1f}k", ""])
    singles = []
    for number in range(SINGLES):
        expire(db, [users[number * (count // SINGLES)]])
        db.execute("select after_hours.announce_due()")
        committed = time.monotonic()
        singles.append(swarm.collect(1, MARKER)[0] - committed)
        time.sleep(0.01)
    singles.sort()
    rows.append([
        f"a single event with {count:,} idle: p50 / p99, ms from the commit's answer to the client",
        f"{singles[len(singles) // 2] * 1000:.2f} / {singles[int(len(singles) * 0.99)] * 1000:.2f}", "",
    ])  # fmt: skip
    return {"caption": "The whole relay (push)", "columns": ["what", "", "relay CPU each, µs"], "rows": rows}


def start(instance: Instance, core: set[int], settings: dict[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    """python -m relay on its core, ready, and its port."""
    port, admin = free_port(), free_port()
    process = spawn(instance, core, {"RELAY_BIND": f"127.0.0.1:{port}", **settings}, admin)
    for _ in range(100):
        time.sleep(0.1)
        if is_ready(admin):
            return process, port
    raise RuntimeError("the relay does not get ready")


def spawn(instance: Instance, core: set[int], settings: dict[str, str], admin: int) -> subprocess.Popen[bytes]:
    """python -m relay on its core."""
    environment = {
        **os.environ, "RELAY_DSN": instance.dsn("after_hours_relay"), "RELAY_JWT_SECRET": SECRET,
        "RELAY_ADMIN_BIND": f"127.0.0.1:{admin}", **settings,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "relay"], cwd=REPO, env=environment, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )  # fmt: skip


def is_ready(admin: int) -> bool:
    """What a probe of the relay with this admin port says."""
    return not subprocess.run(["curl", "-sf", f"http://127.0.0.1:{admin}/readyz"], capture_output=True).returncode


def expire(db: psycopg.Connection[Any], users: list[str]) -> None:
    """A session of each, over now."""
    db.execute(
        "insert into public.after_hours_sessions (user_id, started_at, expires_at)"
        " select u, now() - interval '1 hour', clock_timestamp() from unnest(%s::uuid[]) as u",
        (users,),
    )


def announce(db: psycopg.Connection[Any]) -> None:
    """All that is due, in one statement."""
    db.execute("select after_hours.announce_due(1000000)")


def cpu_of(pid: int) -> float:
    """Seconds of CPU so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid: int) -> int:
    """Bytes of memory."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) * 1024
