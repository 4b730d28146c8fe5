"""./dev bench reconnect: 10,000 clients lose their relay at once and come back as the browser client does.

A relay with the default settings has one core, the clients and PostgreSQL share the other. While the relay is away one
event of each user is announced: each client must get its own, once. Figures go to results/reconnect.json.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import os
import random
import select
import signal
import socket
import subprocess
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.machine import describe, save
from tests.bench.relay_client import HANDSHAKE, PONG
from tests.bench.relay_whole import announce, cpu_of, expire, is_ready, spawn
from tests.conftest import Instance
from tests.helpers import free_port, make_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection as Database

COUNT = 10_000
RELAY_CORE, CLIENT_CORE = {0}, {1}
PATIENCE, SETTLED = 10.0, 10.0  # s, as in after-hours.js
LIMIT = 180.0  # s until all have to be back
MASK = b"\0\0\0\0"


@dataclass(slots=True)
class Client:
    """One user's client: the state that after-hours.js keeps between connections."""

    token: str
    cursor: str = ""
    failures: int = 0
    greeted_at: float = 0.0
    line: Line | None = None
    next: Line | None = None
    events: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class Line:
    """One connection of a client."""

    client: Client
    socket: socket.socket
    since: float
    is_open: bool = False
    is_greeted: bool = False
    got: bytes = b""


class Herd:
    """All clients, in one loop."""

    def __init__(self, port: int, tokens: list[str]) -> None:
        self.clients = [Client(token) for token in tokens]
        self.attempts = 0
        self.hellos: list[float] = []
        self._port = port
        self._poll = select.epoll()
        self._lines: dict[int, Line] = {}
        self._due: list[tuple[float, int, Client]] = []
        self._number = 0

    def begin(self, seconds: float) -> None:
        """The first connections, spread over some seconds."""
        for client in self.clients:
            self._later(client, random.uniform(0, seconds))

    def run(self, is_over: Callable[[], bool], seconds: float) -> None:
        """Serve all clients until something is so. Raises TimeoutError."""
        deadline, swept = time.monotonic() + seconds, 0.0
        while not is_over():
            now = time.monotonic()
            if now > deadline:
                raise TimeoutError(f"{sum(one.line is not None for one in self.clients)} of {len(self.clients)}")
            while self._due and self._due[0][0] <= now:
                self._open(heapq.heappop(self._due)[2], now)
            if now - swept > 0.5:
                swept = now
                for silent in [
                    one for one in self._lines.values() if not one.is_greeted and now - one.since > PATIENCE
                ]:
                    self._ended(silent, None)
            for descriptor, events in self._poll.poll(0.01, 1024):
                line = self._lines.get(descriptor)
                if line is not None:
                    self._act(line, events)

    def _later(self, client: Client, seconds: float) -> None:
        self._number += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, self._number, client))

    def _open(self, client: Client, now: float) -> None:
        if client.next is not None:
            return
        self.attempts += 1
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", self._port))
        client.next = self._lines[one.fileno()] = Line(client, one, now)
        self._poll.register(one, select.EPOLLOUT)

    def _act(self, line: Line, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                line.socket.send(HANDSHAKE.format(path="/ws", extra="").encode())
                self._poll.modify(line.socket, select.EPOLLIN)
                return
            data = line.socket.recv(65536)
            if not data:
                raise ConnectionResetError
            line.got += data
            self._read(line)
        except OSError:
            self._ended(line, None)

    def _read(self, line: Line) -> None:
        if not line.is_open:
            head, end, line.got = line.got.partition(b"\r\n\r\n")
            if not end:
                line.got = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                raise ConnectionResetError  # a browser tells its page no more than this
            line.is_open = True
            client = line.client
            self._say(
                line, {"type": "auth", "token": client.token, **({"after": client.cursor} if client.cursor else {})}
            )
        while len(line.got) >= 2:
            first, size = line.got[:2]
            start = 4 if size == 126 else 2
            size = int.from_bytes(line.got[2:4]) if size == 126 else size
            if len(line.got) < start + size:
                return
            payload, line.got = line.got[start : start + size], line.got[start + size :]
            if first == 0x89:
                line.socket.send(PONG)
            elif first == 0x88:
                self._ended(line, json.loads(payload[2:] or b"{}").get("retryAfterMs"))
                return
            else:
                self._take(line, json.loads(payload))

    def _say(self, line: Line, message: dict[str, str]) -> None:
        text = json.dumps(message).encode()
        line.socket.send(b"\x81\xfe" + len(text).to_bytes(2) + MASK + text)

    def _take(self, line: Line, frame: dict[str, Any]) -> None:
        client = line.client
        if frame["type"] == "hello":
            line.is_greeted = True
            if client.line is not None:
                self._forget(client.line)
            client.line, client.next, client.greeted_at = line, None, time.monotonic()
            self.hellos.append(client.greeted_at)
            if frame["start"] != "replayed":
                client.cursor = frame["cursor"]
        elif frame["type"] == "drain" and line is client.line:
            self._later(client, self._delay(client, frame["retryAfterMs"]))
        elif ":" in frame["type"]:
            client.cursor = frame["cursor"]
            client.events[frame["id"]] += 1

    def _ended(self, line: Line, wanted: float | None) -> None:
        client = line.client
        self._forget(line)
        delay = self._delay(client, wanted)
        if line is client.line:
            client.line = None
        else:
            client.next = None
        if client.next is None:
            self._later(client, delay)

    def _delay(self, client: Client, wanted: float | None) -> float:
        """As #delay and #backOff of after-hours.js; s."""
        if client.line is not None and time.monotonic() - client.greeted_at > SETTLED:
            client.failures = 0
        client.failures += 1
        spread = 0.1 + random.random() * min(30.0, 0.25 * 2.0**client.failures)
        if wanted is None:
            return spread
        return wanted / 1000 if client.failures == 1 else max(wanted / 1000, spread)

    def _forget(self, line: Line) -> None:
        del self._lines[line.socket.fileno()]
        self._poll.unregister(line.socket)
        line.socket.close()

    def are_back(self) -> bool:
        """True if each client has a connection with a hello, and the event that was announced."""
        return all(client.line is not None and client.events for client in self.clients)


@dataclass
class Bench:
    """One database and one herd, over all scenarios."""

    instance: Instance
    db: Database
    port: int
    users: list[str]
    herd: Herd

    def relay(self) -> subprocess.Popen[bytes]:
        """A relay on the herd's port, ready; the herd goes on meanwhile."""
        admin = free_port()
        settings = {"RELAY_BIND": f"127.0.0.1:{self.port}", "RELAY_REUSE_PORT": "true"}
        process = spawn(self.instance, RELAY_CORE, settings, admin)
        self.herd.run(lambda: is_ready(admin), 60)
        return process

    def database_calls(self) -> tuple[int, int, float]:
        """Calls of relay_attach, of all of the relay's functions, and ms spent in them."""
        self.db.execute("select pg_stat_clear_snapshot()")
        rows = self.db.execute(
            "select coalesce(sum(calls) filter (where funcname = 'relay_attach'), 0)::int as attach,"
            " coalesce(sum(calls), 0)::int as calls, coalesce(sum(total_time), 0)::float8 as ms"
            " from pg_stat_user_functions where schemaname = 'after_hours' and funcname like 'relay\\_%'"
        ).fetchone()
        assert rows
        return rows.attach, rows.calls, rows.ms

    def lose(
        self, name: str, old: subprocess.Popen[bytes], kind: str, away: float
    ) -> tuple[list[str], subprocess.Popen[bytes]]:
        """One scenario, from all connected to all connected: its row, and the relay that is there then."""
        herd = self.herd
        settled = time.monotonic() + SETTLED + 1  # or the back-off goes on where it was
        herd.run(lambda: time.monotonic() > settled, 60)
        for client in herd.clients:
            client.events.clear()
        attempts, calls = herd.attempts, self.database_calls()
        herd.hellos.clear()
        lost = time.monotonic()
        successor = self.relay() if kind == "rolling" else None
        old.send_signal(signal.SIGKILL if kind == "crash" else signal.SIGTERM)
        expire(self.db, self.users)
        announce(self.db)
        if successor is None:
            herd.run(lambda: old.poll() is not None, 60)
            until = lost + away
            herd.run(lambda: time.monotonic() > until, 120)
            successor = self.relay()
        began = lost if kind == "rolling" else time.monotonic()
        herd.run(herd.are_back, LIMIT)
        old.wait()
        back = time.monotonic() - began
        time.sleep(1.5)  # the statistics of PostgreSQL
        after = self.database_calls()
        twice = sum(client.events.total() - 1 for client in herd.clients)
        times = sorted(instant - began for instant in herd.hellos)
        peak = max(Counter(int(instant * 2) for instant in times).values()) * 2
        cells = [
            name, f"{times[len(times) // 2]:.1f}", f"{times[int(len(times) * 0.99)]:.1f}", f"{back:.1f}", f"{peak:,}",
            f"{herd.attempts - attempts:,}", f"{cpu_of(successor.pid):.1f}", f"{after[0] - calls[0]:,}",
            f"{after[1] - calls[1]:,}", f"{(after[2] - calls[2]) / 1000:.1f}", f"{twice:,}",
        ]  # fmt: skip
        print(" | ".join(cells), flush=True)
        return cells, successor


def main() -> None:
    """Every scenario, once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=COUNT)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, CLIENT_CORE)
    machine = describe()
    with ExitStack() as stack:
        home = Path(f"/tmp/ah-bench-{uuid.uuid4().hex[:6]}")  # noqa: S108
        names = ("AFTER_HOURS_PG_PORT", "RELAY_PORT", "RELAY_ADMIN_PORT", "DEMO_PORT")
        instance = Instance(home, {name: str(free_port()) for name in names})
        stack.callback(instance.dev, "down", "--delete", check=False)
        instance.dev("cluster")
        db = stack.enter_context(instance.connect())
        db.execute("select after_hours.uninstall_jobs()")
        db.execute("alter system set track_functions = 'all'")
        db.execute("select pg_reload_conf()")
        users = [str(uuid.uuid4()) for _ in range(arguments.count)]
        port = free_port()
        herd = Herd(port, [make_token(user) for user in users])
        gc.freeze()
        bench = Bench(instance, db, port, users, herd)
        relay = bench.relay()
        stack.callback(lambda: relay.kill())
        herd.begin(5)
        herd.run(lambda: all(client.line for client in herd.clients), LIMIT)
        rows = []
        for name, kind, away in (
            ("killed, back at once", "crash", 0.0),
            ("killed, back after 20 s", "crash", 20.0),
            ("SIGTERM, then started again", "restart", 0.0),
            ("SIGTERM, its successor there already", "rolling", 0.0),
        ):
            cells, relay = bench.lose(name, relay, kind, away)
            rows.append(cells)
        save("reconnect", [{
            "caption": f"{arguments.count:,} clients with a cursor and an event that they missed; s from the instant the new "
            "relay is ready (the last line: from the signal)",
            "columns": [
                "the relay was", "half have `hello`, s", "99 %", "all, with their event", "`hello`/s, most in 0.5 s", "attempts",
                "relay CPU, s", "calls of relay_attach", "of all functions", "s in the database", "events told twice",
            ],
            "rows": rows,
        }], machine)  # fmt: skip


if __name__ == "__main__":
    main()
