"""The stage of the fault matrix: a primary and a standby that change roles, proxies that can swallow, two relays."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import asyncpg

from tests.helpers import PATIENCE, REPO, SECRET, free_port, wait_until

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"))


class Proxy:
    """A TCP proxy on loopback; on request a black hole: nothing passes, nothing closes."""

    def __init__(self) -> None:
        self.host, self.port = "127.0.0.1", 0
        self.targets: list[int | str] = []  # a port, or the path of a socket
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, *targets: int | str, listening: socket.socket | None = None) -> None:
        """Serve on a free port of loopback, or on a socket that listens already."""
        self.targets = list(targets)
        listening = listening or socket.create_server(("127.0.0.1", 0), backlog=512)
        self._server = await asyncio.start_server(self._serve, sock=listening)
        self.host, self.port = listening.getsockname()

    def swallow(self, on: bool) -> None:
        if on:
            self._open.clear()
        else:
            self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for target in list(self.targets):
            try:
                if isinstance(target, str):
                    there, back = await asyncio.open_unix_connection(target)
                else:
                    there, back = await asyncio.open_connection("127.0.0.1", target)
                break
            except OSError:
                continue
        else:
            writer.close()
            return
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while data := await source.read(65536):
                    await self._open.wait()
                    sink.write(data)
                    await sink.drain()
            await self._open.wait()
        finally:
            sink.close()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the next turn


class Lane:
    """A network namespace at the end of a cable of its own. While cut, packets are dropped without an error. Needs root."""

    CLONE_NEWNET = 0x40000000

    def __init__(self) -> None:
        number = secrets.randbelow(1 << 14)  # `random` is seeded by Hypothesis: the same in parallel processes
        self.name = f"ah{number}"
        subnet, first = f"10.213.{number >> 6}", (number & 63) << 2  # visible only at the two ends of the cable
        self.here, self.address = f"{subnet}.{first + 1}", f"{subnet}.{first + 2}"
        self._undo = ExitStack()

    def __enter__(self) -> Lane:
        """Raises OSError or CalledProcessError where this is not allowed."""
        with ExitStack() as undo:
            here, there = f"{self.name}a", f"{self.name}b"
            ip("netns", "add", self.name)
            undo.callback(ip, "netns", "delete", self.name)
            ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
            undo.callback(ip, "link", "delete", here)
            ip("address", "add", f"{self.here}/30", "dev", here)
            ip("link", "set", here, "up")
            ip("-n", self.name, "address", "add", f"{self.address}/30", "dev", there)
            ip("-n", self.name, "link", "set", there, "up")
            # its hardware address for good: a neighbour that doesn't answer would soon be "no route to host"
            hardware = json.loads(ip("-n", self.name, "-json", "link", "show", there))[0]["address"]
            ip("neighbour", "replace", self.address, "lladdr", hardware, "dev", here, "nud", "permanent")
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._undo.close()

    def cut(self, on: bool) -> None:
        """Take the far end's interface down, or up again."""
        ip("-n", self.name, "link", "set", f"{self.name}b", "down" if on else "up")

    def listen(self) -> socket.socket:
        """A listening socket that lives in the namespace; whoever holds it may use it from outside."""
        made: list[socket.socket] = []

        def within() -> None:  # in a thread of its own: a thread changes its namespace for good
            with Path(f"/run/netns/{self.name}").open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), self.CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_server((self.address, 0), backlog=512))

        thread = threading.Thread(target=within)
        thread.start()
        thread.join()
        return made[0]


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


class Node:
    """One PostgreSQL server: a data directory, a port, the operating system's user that runs it."""

    def __init__(self, data: Path, port: int, user: str) -> None:
        self.data, self.port, self.user = data, port, user

    async def run(self, *command: str | Path) -> None:
        as_user = ["runuser", "-u", self.user, "--"] if os.geteuid() == 0 else []
        process = await asyncio.create_subprocess_exec(
            *as_user, *map(str, command), cwd="/", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{command}: {output.decode()}")

    async def control(self, action: str, *more: str) -> None:
        """pg_ctl start, restart, promote; waits."""
        await self.run(BIN / "pg_ctl", "-D", self.data, "-w", "-t", "60", "-l", f"{self.data}.log", action, *more)

    async def start_again(self) -> None:
        """After a kill: the shared memory is free once the last backend has noticed."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(RuntimeError):
                    return await self.control("start")
                await asyncio.sleep(0.2)

    def postmaster(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    async def kill(self) -> None:
        """kill -9 to the postmaster; returns when all of its backends are gone as well."""
        pid = self.postmaster()
        children = children_of(pid)
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: not any(is_running(one) for one in (pid, *children)), interval=0.05)

    async def connect(self, role: str = "postgres", **options: object) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(  # type: ignore[no-any-return, call-overload]
            f"postgresql://{role}@127.0.0.1:{self.port}/after_hours", timeout=2, command_timeout=5, **options
        )


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """False for one that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class RelayProcess:
    """A relay as a process of its own that logs which events it reads: recording_relay.py."""

    def __init__(self, name: str, dsn: str, log: Path) -> None:
        self.name, self._dsn, self._log = name, dsn, log
        self.port, self.admin = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ, "RELAY_DSN": self._dsn, "RELAY_JWT_SECRET": SECRET, "RELAY_NODE": self.name,
            "RELAY_BIND": f"127.0.0.1:{self.port}", "RELAY_ADMIN_BIND": f"127.0.0.1:{self.admin}",
            "RELAY_DRAIN_SECONDS": "3",
        }  # fmt: skip
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "tests.faults.recording_relay"]
            self.process = subprocess.Popen(command, cwd=REPO, env=environment, stderr=log)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def wait(self) -> int:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait)

    async def is_ready(self) -> bool:
        with suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.admin)
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
                writer.close()
                return answer.startswith(b"HTTP/1.1 200")
        return False


class Testbed:
    """Everything the matrix plays on. primary and standby change places by fail_over()."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="after-hours-soak-", dir="/tmp"))
        self.home.chmod(0o755)
        self.primary: Node
        self.standby: Node | None = None
        self.proxies: dict[int, Proxy] = {}
        self.front = Proxy()
        self.relays: list[RelayProcess] = []
        self._generation = 0
        self._ports = {name: str(free_port()) for name in ("AFTER_HOURS_PG_PORT", "RELAY_PORT", "RELAY_ADMIN_PORT")}

    def dev(self, *arguments: str) -> None:
        environment = {**os.environ, "AFTER_HOURS_HOME": str(self.home), **self._ports}
        done = subprocess.run([REPO / "dev", *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    async def set_up(self) -> None:
        await asyncio.to_thread(self.dev, "cluster")
        base = (self.home / "cluster").resolve()
        data = base / "data"
        user = pwd.getpwuid(data.stat().st_uid).pw_name
        self.primary = Node(data, int(self._ports["AFTER_HOURS_PG_PORT"]), user)
        rules = (data / "pg_hba.conf").read_text()
        (data / "pg_hba.conf").write_text("host all,replication all 127.0.0.1/32 trust\n" + rules)
        await self.primary.control("reload")
        self._other_port = free_port()
        for port in (self.primary.port, self._other_port):
            self.proxies[port] = Proxy()
            await self.proxies[port].start(port)
        await self.add_standby()
        dsn = "postgresql://after_hours_relay@" + ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies.values())
        for name in ("one", "two"):
            relay = RelayProcess(name, f"{dsn}/after_hours", self.home / f"relay-{name}.log")
            relay.start()
            self.relays.append(relay)
        await self.front.start(*(relay.port for relay in self.relays))

    async def add_standby(self) -> None:
        """A fresh copy of the primary, streaming."""
        port = next(port for port in self.proxies if port != self.primary.port)
        self._generation += 1
        data = self.primary.data.parent / f"data{self._generation}"
        await self.primary.run(
            BIN / "pg_basebackup", "-h", "127.0.0.1", "-p", str(self.primary.port), "-U", "postgres", "-D", data,
            "-R", "-X", "stream", "-c", "fast",
        )  # fmt: skip
        config = (data / "after_hours.conf").read_text()
        directory = data.parent / f"socket{port}"
        config = re.sub(r"(?m)^port = \d+", f"port = {port}", config)
        config = re.sub(r"(?m)^(unix_socket_directories|cron.host) = '.*'", rf"\1 = '{directory}'", config)
        (data / "after_hours.conf").write_text(config)
        directory.mkdir(exist_ok=True)
        shutil.chown(directory, self.primary.user)
        node = Node(data, port, self.primary.user)
        await node.control("start")
        self.standby = node

    async def fail_over(self) -> None:
        """kill -9 the primary, promote the standby, give pg_cron's jobs its address. What had not streamed is lost."""
        assert self.standby is not None
        old, self.primary, self.standby = self.primary, self.standby, None
        await old.kill()
        await self.primary.control("promote")
        directory = self.primary.data.parent / f"socket{self.primary.port}"
        connection = await self.primary.connect()
        await connection.execute(
            f"update cron.job set nodename = '{directory}', nodeport = {self.primary.port} where nodename <> ''"
        )
        await connection.close()
        shutil.rmtree(old.data)

    def reads(self) -> dict[str, list[float]]:
        """When each event was read by a relay: the beginning of the call, by cursor."""
        found: dict[str, list[float]] = {}
        for relay in self.relays:
            for line in (self.home / f"relay-{relay.name}.log").read_text().splitlines():
                if line.startswith('{"event": "read"'):
                    told = json.loads(line)
                    for cursor in told["cursors"]:
                        found.setdefault(cursor, []).append(told["started"])
        return found

    async def tear_down(self) -> None:
        for relay in self.relays:
            if relay.process is not None and relay.process.poll() is None:
                relay.signal(signal.SIGCONT)
                relay.signal(signal.SIGKILL)
                await relay.wait()
        for proxy in (self.front, *self.proxies.values()):
            await proxy.stop()
        for node in (self.standby, self.primary):
            if node is not None:
                with suppress(RuntimeError):
                    await node.control("stop", "-m", "immediate")
        shutil.rmtree(self.home, ignore_errors=True)
