"""The sender of pushes with real HTTP receivers and a real database: signatures, addresses, kills, slow targets."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
import uvicorn
from standardwebhooks.webhooks import Webhook
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from relay.webhooks.network import is_public, make_client
from relay.webhooks.sender import Sender, retry_after
from relay.webhooks.signing import SecretError, read_secrets, sign
from tests.helpers import REPO, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from starlette.requests import Request

    from tests.conftest import Connection, Instance

SECRET = "whsec_" + base64.b64encode(b"of these tests alone, 32 bytes!!").decode()


def test_signature_of_the_standards_own_example() -> None:
    secret = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = sign(
        [secret],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        '{"test": 2432232314}',
        datetime.fromtimestamp(1614265330, UTC),
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_two_secrets_sign_both_ways_while_one_is_replaced(tmp_path: Path) -> None:
    other = "whsec_" + base64.b64encode(b"another one of 24 bytes.").decode()
    (tmp_path / "main").write_text(f"{SECRET}\n{other}\n")
    headers = sign(read_secrets(tmp_path, "main"), "id", "{}")
    for each in (SECRET, other):
        Webhook(each).verify("{}", headers)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("", "shorter than 24"),
        ("whsec_c2hvcnQ=", "shorter than 24"),
        ("whsec_no base64 $$", "not base64"),
        ("whsec_é", "not base64"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named_and_not_shown(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "main").write_text(content, encoding="utf-8")
    with pytest.raises(SecretError, match=message) as caught:
        read_secrets(tmp_path, "main")
    assert "whsec_c2" not in str(caught.value)


PRIVATE = """
    127.0.0.1 127.8.8.8 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1
    192.0.2.1 240.0.0.1 198.18.0.1 ::1 :: fe80::1 fc00::1 fd12::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1
    ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 2002:7f00:1:: 2002:a00:1:: 2001:0:7f00:1:: ::127.0.0.1
    2001:db8::1
"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254"],  # noqa: S104
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_connection_to_a_private_address_in_any_spelling(scheme: str, host: str) -> None:
    connected = asyncio.Event()
    server = await asyncio.start_server(lambda *_: connected.set(), host=["127.0.0.1", "::1"], port=free_port())
    port = server.sockets[0].getsockname()[1]
    async with make_client([]) as client, server:
        with pytest.raises(httpx.ConnectError, match=r"not a public address|is for loopback"):
            await client.post(f"{scheme}://{host}:{port}/", timeout=2)
    assert not connected.is_set()


async def test_an_answer_of_dns_that_changes_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that changes its mind can't be had here: getaddrinfo is replaced. It is asked once per connection."""
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    asked: list[str] = []
    used: list[str] = []

    async def getaddrinfo(_self: Any, host: str, port: int, **_more: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in answers[len(asked) - 1]]

    async def connect_tcp(_self: Any, host: str, *_more: Any) -> Any:
        used.append(host)
        raise httpx.ConnectError("not here")

    monkeypatch.setattr(asyncio.get_running_loop().__class__, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("httpcore.AnyIOBackend.connect_tcp", connect_tcp)
    async with make_client([]) as client:
        with pytest.raises(httpx.ConnectError, match="not here"):
            await client.post("https://rebind.example/")
        with pytest.raises(httpx.ConnectError, match="not a public address"):
            await client.post("https://rebind.example/")
    assert (asked, used) == (["rebind.example"] * 2, ["93.184.216.34"])


async def test_plain_http_only_on_loopback_even_for_a_host_that_is_allowed() -> None:
    async with make_client(["example.test", "10.0.0.1"]) as client:
        with pytest.raises(httpx.ConnectError, match="is for loopback"):
            await client.post("http://10.0.0.1/")


def test_retry_after_in_seconds_as_a_date_and_odd() -> None:
    seconds = retry_after("120")
    assert seconds is not None
    assert seconds.total_seconds() == 120
    assert retry_after("99999999999") == retry_after("7200")
    past = retry_after("Wed, 21 Oct 2015 07:28:00 GMT")
    assert past is not None
    assert past.total_seconds() == 0
    assert [retry_after(each) for each in (None, "soon", "-5", "1e9")] == [None] * 4


@dataclass
class Receiver:
    """An HTTP server that records what it gets; `answer` decides what it says."""

    port: int
    answer: Callable[[Request], Awaitable[Response]]
    got: list[tuple[str, dict[str, str], str]] = field(default_factory=list)

    async def handle(self, request: Request) -> Response:
        body = (await request.body()).decode()
        self.got.append((request.url.path, dict(request.headers), body))
        return await self.answer(request)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _ in self.got]


async def accept(_request: Request) -> Response:
    return Response(status_code=204)


@asynccontextmanager
async def receiver(answer: Callable[[Request], Awaitable[Response]] = accept) -> AsyncIterator[Receiver]:
    made = Receiver(free_port(), answer)
    app = Starlette(routes=[Route("/{rest:path}", made.handle, methods=["POST", "GET"])])
    server = uvicorn.Server(uvicorn.Config(app, port=made.port, log_level="error", lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve())
    try:
        await wait_until(lambda: server.started)
        yield made
    finally:
        server.should_exit = server.force_exit = True
        await task


def add_target(db: Connection, port: int, name: str = "main", path: str = "/hook", **values: Any) -> None:
    columns = {
        "url": f"http://127.0.0.1:{port}{path}", "secret_name": "main", "added_at": "2000-01-01Z", "wait": "1 second", **values,
    }  # fmt: skip
    db.execute(
        f"insert into after_hours.push_targets (name, {', '.join(columns)}) values (%s{', %s' * len(columns)})",
        (name, *columns.values()),
    )


def announce(db: Connection, count: int = 1, left: str = "100 seconds") -> None:
    """Warnings that were announced 10 s ago."""
    db.execute(
        "insert into public.after_hours_sessions (user_id, expires_at) "
        "select gen_random_uuid(), clock_timestamp() + %s::interval from generate_series(1, %s)",
        (left, count),
    )
    db.execute("select after_hours.announce_due()")
    db.execute("update after_hours.events set emitted_at = emitted_at - interval '10 seconds'")


def acknowledge_all(db: Connection) -> None:
    db.execute(
        "select after_hours.relay_receipts('n', array_agg(e.id), array_agg(e.uid), array_agg(e.user_id), "
        "array_agg(now()), array_agg(now())) from after_hours.events as e"
    )


def make_due(db: Connection) -> None:
    db.execute("update after_hours.pushes set next_at = clock_timestamp() where finished_at is null")


def states(db: Connection) -> list[Any]:
    return db.execute("select target, state, count(*) from after_hours.pushes group by 1, 2 order by 1, 2").fetchall()


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    (tmp_path / "main").write_text(SECRET)
    return tmp_path


@asynccontextmanager
async def sending(instance: Instance, secrets: Path) -> AsyncIterator[Sender]:
    """A sender in this process, as its own role."""

    async def connect() -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(instance.dsn("after_hours_push"), autocommit=True)

    stop = asyncio.Event()
    async with make_client(["127.0.0.1"]) as client:
        sender = Sender(connect, client, secrets, "test")
        task = asyncio.create_task(sender.run(stop))
        try:
            yield sender
        finally:
            stop.set()
            await task


async def test_a_push_arrives_signed_and_is_recorded(db: Connection, instance: Instance, secrets: Path) -> None:
    async with receiver() as target:
        add_target(db, target.port)
        announce(db)
        async with sending(instance, secrets):
            await wait_until(lambda: states(db) == [("main", "delivered", 1)])
    ((path, headers, body),) = target.got
    event = db.execute("select uid, user_id, type from after_hours.events").fetchone()
    assert event is not None
    assert path == "/hook"
    message = Webhook(SECRET).verify(body, headers)
    assert (message["type"], message["data"]["userId"], headers["webhook-id"]) == (
        event.type, str(event.user_id), str(event.uid),
    )  # fmt: skip
    assert headers["content-type"] == "application/json"
    assert db.execute("select status, took_ms is not null from after_hours.push_history").fetchall() == [(204, True)]


async def test_a_redirect_is_not_followed(db: Connection, instance: Instance, secrets: Path) -> None:
    async def away(_request: Request) -> Response:
        return RedirectResponse(f"http://127.0.0.1:{target.port}/elsewhere", 307)

    async with receiver(away) as target:
        add_target(db, target.port)
        announce(db)
        async with sending(instance, secrets):
            await wait_until(
                lambda: db.execute("select 1 from after_hours.push_attempts where status = 307").fetchone()
            )
    assert {path for path, _, _ in target.got} == {"/hook"}


async def test_a_slow_target_and_a_dead_one_delay_no_other(db: Connection, instance: Instance, secrets: Path) -> None:
    release = asyncio.Event()

    async def slow(_request: Request) -> Response:
        await release.wait()
        return Response(status_code=200)

    async with receiver(slow) as late, receiver() as quick:
        add_target(db, late.port, "a-slow", concurrency=5)
        add_target(db, free_port(), "b-dead")
        add_target(db, quick.port, "c-quick", per_second=1000, concurrency=50)
        announce(db, 40)
        async with sending(instance, secrets):
            await wait_until(lambda: ("c-quick", "delivered", 40) in states(db))
            assert len(late.got) == 5
            assert ("a-slow", "delivered", 1) not in states(db)
            backlog = db.execute(
                "select target, failing_since is not null from after_hours.push_backlog order by 1"
            ).fetchall()
            assert backlog == [("a-slow", False), ("b-dead", True), ("c-quick", False)]
            release.set()
            await wait_until(lambda: ("a-slow", "delivered", 40) in states(db))
    assert len(set(quick.ids)) == len(quick.ids) == 40


async def test_a_request_ends_with_the_deadline(db: Connection, instance: Instance, secrets: Path) -> None:
    async def never(_request: Request) -> Response:
        await asyncio.sleep(30)
        return Response(status_code=200)

    async with receiver(never) as target:
        add_target(db, target.port)
        announce(db, left="2 seconds")
        async with sending(instance, secrets):
            await wait_until(lambda: [each[1] for each in states(db)] == ["expired"])
    row = db.execute("select status, error, finished_at < not_after + interval '1 second' from after_hours.pushes "
                     "join after_hours.push_history using (finished_at, not_after)").fetchone()  # fmt: skip
    assert row == (None, "no answer in time", True)
    assert len(target.got) == 1


async def test_an_outage_of_the_database_is_survived(db: Connection, instance: Instance, secrets: Path) -> None:
    async def cut(_request: Request) -> Response:
        db.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'after_hours_push'")
        return Response(status_code=200)

    async with receiver(cut) as target:
        add_target(db, target.port)
        announce(db)
        async with sending(instance, secrets):
            await wait_until(lambda: states(db) == [("main", "delivered", 1)])
    assert len(target.got) == 1, "the outcome was recorded over a new connection"


async def start(instance: Instance, secrets: Path, *more: str) -> asyncio.subprocess.Process:
    """The command, as a process of its own."""
    environment = {**os.environ, "AFTER_HOURS_DSN": instance.dsn("after_hours_push")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "push", "--secrets", str(secrets), "--allow-host", "127.0.0.1", *more,
        env=environment, cwd=REPO, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("is_acknowledged", [False, True])
async def test_kill_between_the_request_and_its_record(
    db: Connection, instance: Instance, secrets: Path, is_acknowledged: bool
) -> None:
    """At least once with the same id; after an acknowledgement not again, although the first may still be under way."""
    victim: asyncio.subprocess.Process | None = None

    async def kill(_request: Request) -> Response:
        if victim is not None and victim.returncode is None:
            victim.kill()
        return Response(status_code=200)

    async with receiver(kill) as target:
        add_target(db, target.port)
        announce(db)
        victim = await start(instance, secrets)
        await victim.communicate()
        assert victim.returncode == -signal.SIGKILL
        assert states(db) == [("main", "sending", 1)]
        if is_acknowledged:
            acknowledge_all(db)
        async with sending(instance, secrets):
            await asyncio.sleep(1)
            assert len(target.got) == 1, "the lease is not over"
            make_due(db)
            await wait_until(lambda: states(db) == [("main", "cancelled" if is_acknowledged else "delivered", 1)])
    assert len(target.got) == (1 if is_acknowledged else 2)
    assert len(set(target.ids)) == 1


async def test_kill_before_the_request(db: Connection, instance: Instance, secrets: Path) -> None:
    """A sender that died with its lease, made by the same call that the sender makes."""
    async with receiver() as target:
        add_target(db, target.port)
        announce(db)
        assert len(db.execute("select * from after_hours.push_claim('killed')").fetchall()) == 1
        make_due(db)
        async with sending(instance, secrets):
            await wait_until(lambda: states(db) == [("main", "delivered", 1)])
    assert len(target.got) == 1


async def test_acknowledgements_race_with_pushes(db: Connection, instance: Instance, secrets: Path) -> None:
    """Half of the events are acknowledged while four senders push: what was acknowledged before its claim is not sent."""
    async with receiver() as target:
        add_target(db, target.port, per_second=1000, concurrency=20)
        announce(db, 300)
        acknowledge = (
            "select after_hours.relay_receipts('n', array_agg(e.id), array_agg(e.uid), array_agg(e.user_id), "
            "array_agg(clock_timestamp()), array_agg(clock_timestamp())) from after_hours.events as e where e.id %% 60 = %s"
        )
        async with (
            sending(instance, secrets),
            sending(instance, secrets),
            sending(instance, secrets),
            sending(instance, secrets),
        ):
            for number in range(30):
                await asyncio.to_thread(db.execute, acknowledge, (number,))
            await wait_until(
                lambda: not db.execute("select 1 from after_hours.pushes where finished_at is null").fetchone()
                and db.execute("select read_to >= 300 from after_hours.push_state").fetchone() == (True,), 20,
            )  # fmt: skip
    late = db.execute(
        "select count(*) from after_hours.push_attempts as a join after_hours.pushes as p on p.id = a.push_id "
        "join after_hours.receipts as r on r.uid = p.uid where a.started_at > r.first_ack + interval '50 ms'"
    ).fetchone()
    unacknowledged = db.execute(
        "select count(*) from after_hours.events as e where not exists (select from after_hours.receipts as r where r.uid = e.uid) "
        "and not exists (select from after_hours.pushes as p where p.uid = e.uid and p.state = 'delivered')"
    ).fetchone()
    assert (late, unacknowledged) == ((0,), (0,))
    assert len(set(target.ids)) == len(target.ids)


async def test_the_command_once_and_until_sigterm(db: Connection, instance: Instance, secrets: Path) -> None:
    async with receiver() as target:
        add_target(db, target.port, per_second=1000, concurrency=50)
        announce(db, 3)
        once = await start(instance, secrets, "--once")
        out, err = await once.communicate()
        assert (out.decode().strip(), once.returncode) == ("3 requests", 0)
        lines = [json.loads(line) for line in err.decode().splitlines()]
        assert {(each["event"], each["status"]) for each in lines} == {("push", 204)}
        assert SECRET not in err.decode()
        assert str(db.execute("select user_id from after_hours.events limit 1").fetchone()) not in err.decode()
        process = await start(instance, secrets)
        announce(db)
        await wait_until(lambda: len(target.got) == 4)
        process.terminate()
        await asyncio.wait_for(process.communicate(), 5)
        assert process.returncode == 0


async def test_the_command_says_what_is_missing(db: Connection, instance: Instance, secrets: Path) -> None:
    db.execute("update after_hours.settings set receipts = false")
    refused = await start(instance, secrets, "--once")
    _, err = await refused.communicate()
    assert refused.returncode == 1
    assert b"HINT: update after_hours.settings set receipts = true;" in err
    (secrets / "main").unlink()
    db.execute("update after_hours.settings set receipts = true")
    add_target(db, free_port())
    announce(db)
    await (await start(instance, secrets, "--once")).communicate()
    assert db.execute("select last_error from after_hours.push_backlog").fetchone() == (
        "secret main cannot be read: No such file or directory",
    )
