"""The commands serve, tail and check as processes: their output, their exit codes, no token in a log line."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from relay.check import check_host
from relay.dsn import read_dsn
from relay.logs import is_worth_a_line, without_tokens
from relay.settings import Settings
from tests.conftest import REPO, free_port
from tests.relay.conftest import SECRET, cursors, expire, make_token
from tests.relay.raw_client import handshake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Connection, Instance


def environment(instance: Instance, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    return {
        **kept,
        "RELAY_DSN": instance.dsn("after_hours_relay"),
        "RELAY_JWT_SECRET": SECRET,
        "RELAY_BIND": f"127.0.0.1:{free_port()}",
        "RELAY_ADMIN_BIND": f"127.0.0.1:{free_port()}",
        "RELAY_MAX_SOCKETS": "100",
        **more,
    }


def command(*arguments: str, **options: Any) -> list[str]:
    return [sys.executable, "-m", "relay", *arguments]


@contextmanager
def serving(variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A relay process that is ready."""
    with log.open("wb") as errors, subprocess.Popen(command(), cwd=REPO, env=variables, stderr=errors) as process:
        try:
            end = time.monotonic() + 15
            while True:
                try:
                    if httpx.get(f"http://{variables['RELAY_ADMIN_BIND']}/readyz").status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def test_serve_and_tail_work_and_log_no_token(instance: Instance, db: Connection, user: UUID, tmp_path: Path) -> None:
    variables = environment(instance, RELAY_LOG_LEVEL="debug", RELAY_ORIGIN="https://a.example")
    token, expired = make_token(user), make_token(user, exp=time.time() - 3600)
    url = f"ws://{variables['RELAY_BIND']}/ws"
    with serving(variables, tmp_path / "log") as process:
        expire(db, user, user)
        with subprocess.Popen(
            command("tail", url, "--after", cursors(db)[0], "--all"),
            cwd=REPO, env={**variables, "RELAY_TOKEN": token}, stdout=subprocess.PIPE,
        ) as tail:  # fmt: skip
            assert tail.stdout
            hello, event = json.loads(tail.stdout.readline()), json.loads(tail.stdout.readline())
            assert (hello["start"], event["cursor"]) == ("replayed", cursors(db)[1])
            tail.send_signal(signal.SIGINT)
            assert tail.wait(10) == 0
        refused = subprocess.run(
            command("tail", url), cwd=REPO, env={**variables, "RELAY_TOKEN": expired}, capture_output=True, timeout=30,
            check=False,
        )  # fmt: skip
        assert refused.returncode == 1
        assert b"4401" in refused.stderr
        httpx.get(f"http://{variables['RELAY_BIND']}/events?token={token}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    lines = (tmp_path / "log").read_text().splitlines()
    said = [json.loads(line)["event"] for line in lines]
    assert {"serving", "live", "draining", "drained", "stopped"} <= set(said)
    assert "RELAY_ORIGIN is not a setting: is RELAY_ORIGINS meant?" in said
    for secret in (token, expired, token.split(".")[2], SECRET):
        assert not any(secret in line for line in lines)


def test_what_a_refused_client_puts_into_the_log_is_short_and_escaped(
    instance: Instance, db: Connection, user: UUID, tmp_path: Path
) -> None:
    """Origin, Host and X-Forwarded-For are anybody's text."""
    variables = environment(instance, RELAY_TRUSTED_PROXIES="10.0.0.0/8", RELAY_MAX_SOCKETS_PER_ADDRESS="3")
    host, _, port = variables["RELAY_BIND"].rpartition(":")
    odd = "https://\u00e9\u0085\u009b" + "x" * 5000
    sent = handshake(origin=odd, host=make_token(user), x_forwarded_for=odd)
    with serving(variables, tmp_path / "log"):
        answers = []
        for _ in range(8):  # more than its address may make at once
            with socket.create_connection((host, int(port)), timeout=10) as client:
                client.sendall(sent)
                answers.append(client.recv(4096)[9:12])
    assert {answers[0], answers[-1]} == {b"403", b"503"}
    written = (tmp_path / "log").read_bytes()
    assert written.isascii()
    lines = [json.loads(line) for line in written.decode().splitlines()]
    origin, proxy, full = (
        next(line for line in lines if word in line["event"])
        for word in ("origin refused", "forwards addresses", "come too fast")
    )
    assert len(origin["origin"]) == len(proxy["x_forwarded_for"]) == 200
    assert (origin["host"], proxy["peer"], full["address"]) == ("[token]", "127.0.0.1", "127.0.0.1")


def test_check_reports_each_fault(instance: Instance, db: Connection) -> None:
    db.execute("update after_hours.emitter set heartbeat_at = clock_timestamp()")
    variables = environment(instance)

    def check(**more: str) -> tuple[int, str]:
        done = subprocess.run(
            command("check"),
            cwd=REPO,
            env={**variables, **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    code, text = check()
    assert (code, "BAD" in text) == (0, False), text
    assert "a primary, receives NOTIFY" in text
    code, text = check(RELAY_DSN="postgresql://after_hours_relay@/after_hours?host=/nowhere")
    assert code == 1
    assert "BAD  RELAY_DSN" in text
    db.execute("update after_hours.emitter set heartbeat_at = clock_timestamp() - interval '2 minutes'")
    code, text = check()
    assert code == 1
    assert "not announcing" in text
    code, text = check(RELAY_ORIGIN="geheim", RELAY_JWT_ISSUER="")
    assert "warn RELAY_ORIGIN is not a setting: is RELAY_ORIGINS meant?" in text
    assert "geheim" not in text
    code, text = check(RELAY_JWT_SECRET="short", RELAY_BIND="*:80", RELAY_ORIGINS="*", RELAY_DSN=" ", RELAY_NODES="x")
    assert (code, [line.partition(" ")[0] for line in text.splitlines()]) == (
        2, ["RELAY_DSN:", "RELAY_BIND:", "RELAY_JWT_SECRET:", "RELAY_ORIGINS:", "RELAY_NODES"],
    )  # fmt: skip
    code, text = check(RELAY_JWT_SECRET="short")
    assert (code, text) == (2, "RELAY_JWT_SECRET: must be at least 32 bytes, for example from: openssl rand -hex 32\n")


def test_an_address_in_use_is_reported_by_its_setting(instance: Instance, db: Connection, tmp_path: Path) -> None:
    variables = environment(instance)
    with serving(variables, tmp_path / "log"):
        second = subprocess.run(command(), cwd=REPO, env=variables, capture_output=True, timeout=30, check=False)
        assert second.returncode == 2
        assert b"RELAY_BIND" in second.stderr


@pytest.mark.parametrize("arguments", [[], ["check"]])
def test_a_file_without_a_usable_key_is_named(arguments: list[str], instance: Instance, tmp_path: Path) -> None:
    """A file with one odd key ended the start with a traceback."""
    (tmp_path / "jwks").write_text('{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"shared"}]}')
    variables = environment(instance, RELAY_JWT_KEY_FILE=str(tmp_path / "jwks"))
    del variables["RELAY_JWT_SECRET"]
    done = subprocess.run(
        command(*arguments), cwd=REPO, env=variables, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == (1 if arguments else 2)
    line = "RELAY_JWT_KEY_FILE: has no key that can be used: shared (a secret)\n"
    assert f"BAD  {line}" in done.stdout if arguments else done.stderr == line


@pytest.mark.parametrize("where", ["?token={}", "Bearer {}", "{}", 'x"{}"y'])
def test_text_that_looks_like_a_token_is_replaced_in_the_log(user: UUID, where: str) -> None:
    token = make_token(user)
    line = without_tokens(None, "info", {"event": where.format(token), "n": 1})
    assert token not in line["event"]
    assert "[token]" in line["event"]


def test_errors_of_an_abandoned_connection_attempt_are_not_logged() -> None:
    def record(error: BaseException, text: str) -> logging.LogRecord:
        return logging.LogRecord("asyncio", logging.ERROR, "", 0, text, (), (type(error), error, None))

    assert not is_worth_a_line(record(ConnectionError("x"), "Future exception was never retrieved\nfuture: …"))
    assert is_worth_a_line(record(ConnectionError("x"), "something else"))
    assert is_worth_a_line(record(ValueError("x"), "Task exception was never retrieved"))


async def test_check_reports_a_clock_difference(
    instance: Instance, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """time.time is replaced: a test cannot set the clock of either machine."""
    dsn = instance.dsn("after_hours_relay")
    host, settings = read_dsn(dsn)[0], Settings(dsn=SecretStr(dsn), jwt_secret=SecretStr(SECRET))
    good, line = (await check_host(host, settings))[0]
    assert good, line
    really = time.time
    monkeypatch.setattr("time.time", lambda: really() + 30)
    good, line = (await check_host(host, settings))[0]
    assert not good
    assert re.search(r"the database's clock is (29\.[5-9]|30\.0)", line), line  # the time of the connection counts
    assert "behind ours: synchronise both" in line
