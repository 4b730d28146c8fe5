"""Drain: queued connections are accepted, all clients get `drain`, the end does not depend on clients, no event is missed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from relay.client import Client
from relay.protocol import parse
from tests.conftest import REPO, free_port
from tests.helpers import wait_until
from tests.relay.conftest import SECRET, Running, StartRelay, cursors, expire, make_token
from tests.relay.nginx import accepts, start_nginx
from tests.relay.raw_client import handshake, raw

if TYPE_CHECKING:
    from tests.conftest import Connection, Instance

KINDS = ["push", "stock"]


@pytest.mark.parametrize("sockets", KINDS)
async def test_all_clients_get_drain_and_those_that_stay_are_closed(
    start_relay: StartRelay, user: UUID, sockets: str
) -> None:
    relay = await start_relay(sockets=sockets, drain_seconds=1)
    async with relay.peer(user) as stays, relay.peer(user) as goes:
        stopping = asyncio.create_task(relay.stop())
        await stays.until(lambda it: it.of("drain"))
        assert (await probe(relay)) == (503, "draining")
        with pytest.raises(OSError):  # noqa: PT011 - the listening socket is closed
            await asyncio.open_connection(*relay.relay.bind or ())
        await goes.until(lambda it: it.of("drain"))
        assert goes.of("drain")[0]["retryAfterMs"] <= 250
        await goes.connection.close()
        await stays.until(lambda it: it.closed)
        assert stays.closed is not None
        assert (stays.closed[0], list(stays.closed[1])) == (4000, ["retryAfterMs"])
        await stopping
    assert relay.relay.hub.count == 0


async def probe(relay: Running) -> tuple[int, str]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(relay.http("/readyz", admin=True))
        return answer.status_code, answer.json()["state"]


@pytest.mark.parametrize("sockets", KINDS)
async def test_connections_queued_at_sigterm_are_accepted_and_drained(start_relay: StartRelay, sockets: str) -> None:
    """Connections made while the event loop is busy, followed at once by SIGTERM."""
    relay = await start_relay(sockets=sockets, drain_seconds=0.5)
    assert relay.relay.bind
    waiting = []
    for _ in range(120):  # more than are accepted in one turn
        one = socket.create_connection(relay.relay.bind)
        one.sendall(handshake(authorization=f"Bearer {make_token(uuid4())}"))
        one.setblocking(False)
        waiting.append(one)
    await relay.stop()
    for one in waiting:
        got = one.recv(65536)
        assert got.startswith(b"HTTP/1.1 101")
        assert b'"type":"drain"' in got
        one.close()


async def test_clients_that_do_not_read_do_not_delay_the_end_of_a_drain(
    start_relay: StartRelay, db: Connection, user: UUID
) -> None:
    relay = await start_relay(drain_seconds=0.3)
    assert relay.relay.bind
    async with raw(relay.relay.bind[1]) as stuck:
        await stuck.send(handshake(authorization=f"Bearer {make_token(user)}"))
        await wait_until(lambda: relay.relay.hub.count == 1)
        stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
        transport = relay.relay.hub.connections()[0].transport
        while not transport.buffered():
            transport.write(b"\x81\x7e\x10\x00" + b"x" * 4096)
        async with asyncio.timeout(15):
            await relay.stop()


def spawn(instance: Instance, **settings: Any) -> tuple[subprocess.Popen[str], int]:
    """python -m relay, live; its port."""
    port, admin = free_port(), free_port()
    environment = {
        **os.environ, "RELAY_DSN": instance.dsn("after_hours_relay"), "RELAY_JWT_SECRET": SECRET,
        "RELAY_BIND": f"127.0.0.1:{port}", "RELAY_ADMIN_BIND": f"127.0.0.1:{admin}",
        **{f"RELAY_{name.upper()}": str(value) for name, value in settings.items()},
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "relay"], cwd=REPO, env=environment, text=True, stderr=subprocess.PIPE
    ), port


@pytest.mark.parametrize("sockets", KINDS)
async def test_a_second_sigterm_ends_the_drain_at_once(
    instance: Instance, db: Connection, user: UUID, sockets: str
) -> None:
    process, port = spawn(instance, sockets=sockets, drain_seconds=600)
    client = Client(f"ws://127.0.0.1:{port}/ws", lambda: make_token(user), all_frames=True)
    frames = client.frames()
    try:
        async with asyncio.timeout(30):
            while (await anext(frames))["type"] != "hello":
                pass
            process.send_signal(signal.SIGTERM)
            while (await anext(frames))["type"] != "drain":
                pass
            process.send_signal(signal.SIGTERM)
            while process.poll() is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
        await frames.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("sockets", KINDS)
async def test_clients_moved_to_another_process_on_the_same_port_get_each_event_once(
    start_relay: StartRelay, db: Connection, sockets: str
) -> None:
    users = [uuid4() for _ in range(30)]
    port = free_port()
    options = {"sockets": sockets, "bind": f"127.0.0.1:{port}", "reuse_port": True, "drain_seconds": 2}
    old = await start_relay(**options)
    got: dict[UUID, list[str]] = {user: [] for user in users}

    async def follow(user: UUID) -> None:
        async for event in Client(f"ws://127.0.0.1:{port}/ws", lambda: make_token(user)).frames():
            got[user].append(event["cursor"])

    following = [asyncio.create_task(follow(user)) for user in users]
    await wait_until(lambda: old.relay.hub.count == 30)
    new = await start_relay(**options)
    stopping = asyncio.create_task(old.stop())
    for _ in range(12):
        await asyncio.to_thread(expire, db, *users)
        await asyncio.sleep(0.2)
    await stopping
    await wait_until(lambda: all(len(cursor) == 12 for cursor in got.values()))
    assert new.relay.hub.count == 30
    assert sorted(cursor for mine in got.values() for cursor in mine) == sorted(cursors(db))
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)


# ---- behind nginx


@pytest.mark.parametrize("sockets", KINDS)
async def test_through_nginx_with_tls_clients_join_and_limits_use_the_forwarded_address(
    start_relay: StartRelay, db: Connection, user: UUID, nginx: Path, tmp_path: Path, sockets: str
) -> None:
    relay = await start_relay(sockets=sockets, max_sockets_per_address=1, trusted_proxies="127.0.0.1")
    assert relay.relay.bind
    port = free_port()
    process = start_nginx(nginx, tmp_path, port, relay.relay.bind[1])
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))

    def through(origin: str = "https://chat.test", address: str = "192.0.2.1") -> connect:
        headers = {"Authorization": f"Bearer {make_token(user)}", "X-Forwarded-For": address}
        return connect(
            "wss://chat.test/ws", host="127.0.0.1", port=port, ssl=trust, origin=origin,  # type: ignore[arg-type]
            additional_headers=headers, compression=None, proxy=None,
        )  # fmt: skip

    try:
        await accepts(port)
        async with through() as client:
            assert json.loads(await client.recv())["type"] == "hello"
            expire(db, user)
            event = parse({"text": await client.recv()})
            assert event["cursor"] == cursors(db)[0]
            await (await client.ping())
            with pytest.raises(InvalidStatus, match="503"):  # the address has reached its limit
                await through().__aenter__()
            async with through(address="192.0.2.2") as other:
                assert json.loads(await other.recv())["type"] == "hello"
        with pytest.raises(InvalidStatus, match="403"):
            await through(origin="https://evil.test", address="192.0.2.3").__aenter__()
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("sockets", KINDS)
async def test_through_nginx_with_kept_connections_every_handshake_is_answered(
    start_relay: StartRelay, db: Connection, user: UUID, nginx: Path, tmp_path: Path, sockets: str
) -> None:
    """A handshake as the second request of a kept connection was not answered."""
    relay = await start_relay(sockets=sockets)
    assert relay.relay.bind
    port = free_port()
    process = start_nginx(nginx, tmp_path, port, relay.relay.bind[1])
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    headers = {"Authorization": f"Bearer {make_token(user)}"}

    async def greet() -> None:
        async with asyncio.timeout(2), connect(
            "wss://chat.test/ws", host="127.0.0.1", port=port, ssl=trust, additional_headers=headers, compression=None,
            proxy=None,
        ) as client:  # fmt: skip
            assert json.loads(await client.recv())["type"] == "hello"

    try:
        await accepts(port)
        async with httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{port}", verify=trust, headers=headers | {"Host": "chat.test"}
        ) as client:

            async def get(path: str) -> int:
                return (await client.get(path, extensions={"sni_hostname": "chat.test"})).status_code

            await greet()
            for path in ("/livez", "/events", "/nowhere", "/ws", "/livez"):
                assert await get(path) == {"/nowhere": 404, "/ws": 426}.get(path, 200)
                await greet()
            assert await asyncio.gather(*(get("/events") for _ in range(8))) == [200] * 8
            await asyncio.gather(*(greet() for _ in range(8)))
    finally:
        process.terminate()
        process.wait()
