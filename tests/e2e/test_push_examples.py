"""The example receivers: after-hours push → receiver → a push service of this test, which decrypts what arrives."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import http_ece  # type: ignore[import-untyped]
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.helpers import REPO, free_port, poll_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import Connection, Instance

SECRET = "whsec_" + base64.b64encode(b"of these tests alone, 32 bytes!!").decode()
Request = tuple[str, dict[str, str], bytes]


@asynccontextmanager
async def service(statuses: list[int]) -> AsyncIterator[tuple[str, list[Request]]]:
    """A push service: answers with one status after the other, the last one for good. Yields its address and what it got."""
    got: list[Request] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        status = statuses[min(len(got), len(statuses) - 1)]
        got.append((head[0].split()[1], headers, body))
        writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", free_port())
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", got


@asynccontextmanager
async def receiver(app: str, **settings: str) -> AsyncIterator[int]:
    """One of the examples, started as its README says."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", f"{app}:app", "--port", str(port), "--log-level", "error",
        cwd=REPO / "clients" / "push", env={**os.environ, "WEBHOOK_SECRET": SECRET, **settings},
    )  # fmt: skip

    def is_up() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/").status_code == 405
        except httpx.ConnectError:
            return False

    try:
        await asyncio.to_thread(poll_until, is_up, 20)
        yield port
    finally:
        process.terminate()
        await process.wait()


def prepare(db: Connection, port: int, user: uuid.UUID) -> None:
    """A target, and a warning of the user that was announced 10 s ago."""
    db.execute(
        "insert into after_hours.push_targets (name, url, secret_name, wait, added_at) values ('main', %s, 'main', '1 second', '2000-01-01Z')",
        (f"http://127.0.0.1:{port}/",),
    )
    db.execute(
        "insert into public.after_hours_sessions (user_id, expires_at) values (%s, clock_timestamp() + '100 s')",
        (user,),
    )
    db.execute("select after_hours.announce_due()")
    db.execute("update after_hours.events set emitted_at = emitted_at - interval '10 seconds'")


async def push_once(instance: Instance, secrets: Path) -> str:
    (secrets / "main").write_text(SECRET)
    command = [sys.executable, "-m", "relay", "push", "--once", "--secrets", str(secrets), "--allow-host", "127.0.0.1"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=REPO, env={**os.environ, "AFTER_HOURS_DSN": instance.dsn("after_hours_push")},
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return done.stdout.strip()


def state(db: Connection) -> Any:
    return db.execute("select state, status from after_hours.push_history order by push_id, attempt desc").fetchone()


async def test_web_push(db: Connection, instance: Instance, tmp_path: Path) -> None:
    user, browser, secret = uuid.uuid4(), ec.generate_private_key(ec.SECP256R1()), os.urandom(16)
    vapid = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "vapid.pem").write_bytes(vapid)
    point = browser.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    keys = {
        name: base64.urlsafe_b64encode(value).rstrip(b"=").decode()
        for name, value in (("p256dh", point), ("auth", secret))
    }
    async with service([201]) as (address, got):
        subscriptions = {str(user): [{"endpoint": f"{address}/browser", "keys": keys}]}
        (tmp_path / "subscriptions.json").write_text(json.dumps(subscriptions))
        async with receiver(
            "web_push", VAPID_KEY=str(tmp_path / "vapid.pem"), SUBSCRIPTIONS=str(tmp_path / "subscriptions.json")
        ) as port:
            prepare(db, port, user)
            assert await push_once(instance, tmp_path) == "1 requests"
            forged = await asyncio.to_thread(httpx.post, f"http://127.0.0.1:{port}/", content=b"{}")
    assert (forged.status_code, state(db)) == (401, ("delivered", 204))
    ((path, headers, body),) = got
    assert path == "/browser"
    assert 60 < int(headers["ttl"]) <= 100
    assert headers["authorization"].startswith("vapid ")
    event = json.loads(http_ece.decrypt(body, private_key=browser, auth_secret=secret))
    assert event["type"] == "after_hours:session_expiring"


@pytest.mark.parametrize("statuses", [[200], [404], [500, 200]])
async def test_fcm(db: Connection, instance: Instance, tmp_path: Path, statuses: list[int]) -> None:
    user = uuid.uuid4()
    (tmp_path / "devices.json").write_text(json.dumps({str(user): ["device-1"]}))
    (tmp_path / "token").write_text("of-this-test")
    async with (
        service(statuses) as (address, got),
        receiver(
            "fcm",
            FCM_BASE=address,
            FCM_PROJECT="p",
            FCM_TOKEN_FILE=str(tmp_path / "token"),
            DEVICES=str(tmp_path / "devices.json"),
        ) as port,
    ):
        prepare(db, port, user)
        await push_once(instance, tmp_path)
        if statuses[0] == 500:
            assert state(db) == ("waiting", 503)
            db.execute("update after_hours.pushes set next_at = clock_timestamp()")
            await push_once(instance, tmp_path)
    assert state(db) == ("delivered", 204)
    path, headers, body = got[-1]
    assert (path, headers["authorization"]) == ("/v1/projects/p/messages:send", "Bearer of-this-test")
    message = json.loads(body)["message"]
    assert (message["token"], message["data"]["type"]) == ("device-1", "after_hours:session_expiring")
    left = json.loads((tmp_path / "devices.json").read_text())[str(user)]
    assert left == ([] if statuses == [404] else ["device-1"])
