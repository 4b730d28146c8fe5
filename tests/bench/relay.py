"""./dev bench relay: our socket layer beside what one would otherwise pick, by one cheap client, in one run.

The server has one core to itself, the load client the other. Peers are installed into a scratch directory outside
the repository. Then the whole relay, with tokens, attach and PostgreSQL. Figures go to results/relay.json.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.machine import describe, save
from tests.bench.relay_client import Swarm
from tests.bench.relay_whole import whole_relay
from tests.helpers import REPO, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SERVER_CORE, CLIENT_CORE = {0}, {1}
PYPI = ["aiohttp", "picows", "python-socketio", "websockets==17.4", "uvicorn==0.54.0", "httptools", "starlette"]
NPM = ["ws", "socket.io"]
DEBIAN = ["nginx", "libnginx-mod-nchan"]
TICK = os.sysconf("SC_CLK_TCK")
MARKER = b"expiresAt"
TEXT = (
    '{"type":"after_hours:session_expired","id":"0b0b0b0b-0000-4000-8000-000000000000","cursor":"abcdefgh-1",'
    '"sessionId":"0c0c0c0c-0000-4000-8000-000000000000","expiresAt":"2026-11-24T03:00:00.000Z","r":"e"}'
)
SINGLES = 500
PATIENCE = 8.0  # seconds of rounds; the slow ones get fewer
NAMES = {
    "push": "**After Hours, push** (Starlette, uvicorn)",
    "stock": "After Hours, stock",
    "picows": "picows",
    "aiohttp": "aiohttp",
    "ws": "ws (npm)",
    "websockets": "websockets",
    "starlette": "Starlette, `await send_text`",
    "socket.io": "Socket.IO",
    "python-socketio": "python-socketio",
    "nchan": "nginx Nchan",
}


def install(scratch: Path) -> None:
    """The peers, once; nothing goes into the system or the repository."""
    if not (scratch / "venv").exists():
        venv.create(scratch / "venv", with_pip=True)
        subprocess.run([scratch / "venv/bin/pip", "-q", "install", *PYPI], check=True)
    if not (scratch / "node_modules").exists():
        subprocess.run(["npm", "install", "--silent", *NPM], cwd=scratch, check=True)
    if not (scratch / "nginx").exists():
        (scratch / "debs").mkdir(exist_ok=True)
        subprocess.run(["apt-get", "-qq", "download", *DEBIAN], cwd=scratch / "debs", check=True)
        for package in (scratch / "debs").glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, scratch / "nginx"], check=True)


class Process:
    """A server on its core: what it costs."""

    def __init__(self, process: subprocess.Popen[str], pids: list[int]) -> None:
        self.process, self.pids = process, pids

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        total = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def resident(self) -> int:
        """Bytes of memory."""
        return sum(
            int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) * 1024 for pid in self.pids
        )

    def tell(self, line: str) -> None:
        """One command."""
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@contextmanager
def served(name: str, scratch: Path) -> Iterator[tuple[Process, int]]:
    """A peer, running; its port."""
    environment = {**os.environ, "NODE_ENV": "production"}
    if name == "nchan":
        with nchan(scratch) as found:
            yield found
        return
    if name in NPM:
        command = ["node", str(HERE / "relay_servers.js"), name]
    else:
        python = sys.executable if name in ("push", "stock") else str(scratch / "venv/bin/python")
        command = [python, "-m", "tests.bench.relay_servers", name]
    process = subprocess.Popen(
        command, cwd=scratch if name in NPM else REPO, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, SERVER_CORE),
    )  # fmt: skip
    try:
        assert process.stdout
        yield Process(process, [process.pid]), int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@contextmanager
def nchan(scratch: Path) -> Iterator[tuple[Process, int]]:
    """nginx with one worker and Nchan; its publisher speaks HTTP and is counted with the load client."""
    port, home = free_port(), Path(tempfile.mkdtemp(dir=scratch))
    home.chmod(0o755)
    (home / "nginx.conf").write_text(f"""
load_module {scratch}/nginx/usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log error; user root;
worker_rlimit_nofile 20000;
events {{ worker_connections 19900; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location /ws {{ nchan_subscriber websocket; nchan_channel_id $arg_u all; nchan_subscriber_first_message newest; }}
    location /pub {{ nchan_publisher http; nchan_channel_id $arg_u; nchan_message_buffer_length 0; }}
  }}
}}""")
    process = subprocess.Popen(
        # Nchan insists on /var/lib/nginx: it gets one that only it can see.
        ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs none /var/lib && mkdir /var/lib/nginx && exec "$0" "$@"',
         scratch / "nginx/usr/sbin/nginx", "-p", home, "-c", home / "nginx.conf"],
        text=True, stderr=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, SERVER_CORE),
    )  # fmt: skip
    try:
        time.sleep(1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Publisher(process, [int(pid) for pid in children], port), port
    finally:
        process.terminate()
        process.wait()


class Publisher(Process):
    """Nchan is told by HTTP: one POST for each frame, pipelined."""

    def __init__(self, process: subprocess.Popen[str], pids: list[int], port: int) -> None:
        super().__init__(process, pids)
        code = (
            "import socket, sys, threading\n"
            "count, port = int(sys.argv[1]), int(sys.argv[2])\n"
            "one = socket.create_connection(('127.0.0.1', port))\n"
            "threading.Thread(target=lambda: [None for _ in iter(lambda: one.recv(1 << 20), b'')], daemon=True).start()\n"
            "post = lambda u, text: f'POST /pub?u={u} HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: {len(text)}\\r\\n\\r\\n{text}'.encode()\n"
            "for line in sys.stdin:\n"
            "    kind, _, text = line.rstrip('\\n').partition(' ')\n"
            "    if kind == 'one':\n"
            "        user, _, text = text.partition(' '); one.sendall(post(user, text))\n"
            "    elif kind == 'all':\n"
            "        one.sendall(post('all', text))\n"
            "    else:\n"
            "        for first in range(0, count, 100):\n"
            "            one.sendall(b''.join(post(u, text.replace('000000', f'{u:06}', 1)) for u in range(first, first + 100)))\n"
        )
        self.publisher = subprocess.Popen(
            [sys.executable, "-c", code, str(COUNT), str(port)], text=True, stdin=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, CLIENT_CORE),
        )  # fmt: skip

    def tell(self, line: str) -> None:
        assert self.publisher.stdin
        self.publisher.stdin.write(line + "\n")
        self.publisher.stdin.flush()


COUNT = 10_000


def measure(name: str, scratch: Path, count: int, rounds: int) -> dict[str, Any]:
    """One server: memory, handshakes, all, each, one."""
    speaks = "socket.io" if "socket" in name and "io" in name else "ws"
    path = "/socket.io/?EIO=4&transport=websocket&u={}" if speaks == "socket.io" else "/ws?u={}"
    with served(name, scratch) as (server, port):
        warm = Swarm(port, speaks)
        warm.connect([path.format(count + number) for number in range(50)])
        warm.close()
        time.sleep(1)
        swarm = Swarm(port, speaks)
        before, cpu = server.resident(), server.cpu()
        seconds = swarm.connect([path.format(number) for number in range(count)])
        handshake_cpu = server.cpu() - cpu
        time.sleep(1.5)
        result: dict[str, Any] = {
            "memory": (server.resident() - before) / count,
            "handshakes": count / seconds,
            "handshake_cpu": handshake_cpu / count,
        }
        for kind in ("all", "each"):
            rates: list[float] = []
            costs: list[float] = []
            for _ in range(rounds):
                cpu, began = server.cpu(), time.monotonic()
                server.tell(f"{kind} {TEXT}")
                instants = [at - began for at in swarm.collect(count, MARKER)]
                if not rates or count / max(instants) > max(rates):
                    result[f"{kind}_spread"] = instants
                rates.append(count / max(instants))
                costs.append(server.cpu() - cpu)
                if len(rates) >= 3 and sum(count / rate for rate in rates) > PATIENCE:
                    break
            result[kind] = max(rates)  # the machine is not ours alone: the round that was least disturbed
            result[f"{kind}_cpu"] = sum(costs) / len(costs) / count
        late = []
        for number in range(SINGLES):
            began = time.monotonic()
            server.tell(f"one {number * (count // SINGLES)} {TEXT}")
            late.append(swarm.collect(1, MARKER)[0] - began)
            time.sleep(0.002)
        result["one"] = late
        result["strays"] = swarm.strays
        swarm.close()
        for _ in range(2):
            time.sleep(0.5)
            swarm = Swarm(port, speaks)
            result["handshakes"] = max(
                result["handshakes"], count / swarm.connect([path.format(number) for number in range(count)])
            )
            swarm.close()
    return result


def percentile(values: list[float], part: float) -> float:
    """By rank."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def row(name: str, found: dict[str, Any]) -> list[str]:
    """One line of the table."""
    spread = " / ".join(f"{percentile(found['each_spread'], part) * 1000:.0f}" for part in (0.5, 0.99, 1))
    one = " / ".join(f"{percentile(found['one'], part) * 1000:.2f}" for part in (0.5, 0.99))
    return [
        NAMES[name],
        f"{found['memory'] / 1000:.1f}",
        f"{1 / found['handshake_cpu']:,.0f} ({found['handshakes']:,.0f})",
        f"{1e-3 / found['all_cpu']:.0f}k ({found['all'] / 1000:.0f}k)",
        f"{1e-3 / found['each_cpu']:.1f}k ({found['each'] / 1000:.1f}k)",
        f"{found['each_cpu'] * 1e6:.1f}",
        spread,
        one,
    ]


def main() -> None:
    """Everything, once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "after-hours-bench-relay")
    parser.add_argument("--only", nargs="*", default=list(NAMES))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--sizes", nargs="*", type=int, default=[1000, 5000, 19_000])
    parser.add_argument("--no-whole", action="store_true", help="leave out the relay with PostgreSQL behind it")
    arguments = parser.parse_args()
    if not shutil.which("npm") or (os.cpu_count() or 1) < 2:
        sys.exit("needs npm and two cores")
    arguments.scratch.mkdir(exist_ok=True)
    install(arguments.scratch)
    os.sched_setaffinity(0, CLIENT_CORE)
    gc.freeze()
    machine = describe()
    found = {}
    for name in arguments.only:
        found[name] = measure(name, arguments.scratch, COUNT, arguments.rounds)
        print(" | ".join(row(name, found[name])), f"| strays {found[name]['strays']}", flush=True)
    tables: list[dict[str, Any]] = [
        {
            "caption": f"{COUNT:,} clients, {len(TEXT)}-byte JSON, the server on one core, the load client on the other. "
            "Rates are per second of the server's CPU; in brackets by the clock, in the least disturbed round",
            "columns": [
                "server",
                "kB per idle client",
                "handshakes/s",
                "one for all: frames/s",
                "one for each: frames/s",
                "CPU per frame, µs",
                "one for each: p50 / p99 / last, ms",
                "a single one: p50 / p99, ms",
            ],
            "rows": [row(name, each) for name, each in sorted(found.items(), key=lambda item: item[1]["each_cpu"])],
        }
    ]
    sizes = [
        [f"{count:,}", *row("push", each)[1:6]]
        for count in arguments.sizes
        for each in [measure("push", arguments.scratch, count, 5)]
    ]
    if sizes:
        columns = ["clients", *tables[0]["columns"][1:6]]
        tables.append({"caption": "Push with other numbers of clients", "columns": columns, "rows": sizes})
    if not arguments.no_whole:
        with ExitStack() as stack:
            tables.append(whole_relay(stack, COUNT, SERVER_CORE))
    if set(arguments.only) == set(NAMES):
        save("relay", tables, machine)


if __name__ == "__main__":
    main()
