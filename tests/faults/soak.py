"""The fault matrix: real PostgreSQL with pg_cron's loop, two relays, clients of three kinds, faults by a seed.

./dev soak --minutes 10 --seed 1   prints what was done, the totals and each breach; exits with 1 if there is one.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import click
import httpx

from relay.client import Client
from tests.faults.history import Chain, History, check, is_event
from tests.faults.testbed import Testbed
from tests.helpers import make_token, wait_until

USERS = 60
EXTEND = "expires_at = expires_at + make_interval(secs => $2)"
END = "ended_at = clock_timestamp(), end_reason = 'left'"
TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
FAULTS = {
    "kill_listen": 4, "restart_postgres": 2, "kill_postmaster": 2, "black_hole": 3, "stop_relay": 3, "kill_relay": 3,
    "drain_relay": 3, "fail_over": 2, "second_loop": 2, "forge": 2,
}  # fmt: skip


class Soak:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.history = History()
        self.testbed = Testbed()
        self.users = [UUID(int=self.random.getrandbits(128), version=4) for _ in range(USERS)]
        self.is_writing = True
        self.is_over = False

    # ---- the application

    async def write(self) -> None:
        """Start, extend and end sessions on whatever is the primary."""
        connection: Any = None
        alive: dict[str, float] = {}
        while self.is_writing:
            try:
                if connection is None or connection.is_closed():
                    connection = await self.testbed.primary.connect()
                await self._write_once(connection, alive)
            except TROUBLE:
                if connection is not None:
                    connection.terminate()
                connection = None
                await asyncio.sleep(0.2)
            await asyncio.sleep(self.random.uniform(0.01, 0.1))
        if connection is not None:
            await connection.close()

    async def _write_once(self, connection: Any, alive: dict[str, float]) -> None:
        now = time.time()
        for session in [one for one, end in alive.items() if end < now + 0.2]:
            del alive[session]
        dice = self.random.random()
        if dice < 0.6 or not alive:
            session, user = str(uuid4()), self.random.choice(self.users)
            length = self.random.uniform(0.5, 8)
            self.history.owners[session] = user
            await connection.execute(
                "insert into public.after_hours_sessions (id, user_id, expires_at)"
                " values ($1, $2, clock_timestamp() + make_interval(secs => $3))",
                session, user, length,
            )  # fmt: skip
            alive[session] = now + length
            return
        session = self.random.choice(list(alive))
        is_extended = dice < 0.85
        by = self.random.uniform(0.5, 4)
        self.history.unknown.add(session)  # until it is acknowledged, the outcome is unknown
        deadline = await connection.fetchval(
            f"update public.after_hours_sessions set {EXTEND if is_extended else END}"
            " where id = $1 and ended_at is null and expires_at > clock_timestamp() + interval '50 ms'"
            " returning least(ended_at, expires_at)",
            session,
            *([by] if is_extended else []),
        )
        self.history.unknown.discard(session)
        if is_extended:
            alive[session] += by
        else:
            del alive[session]
        if deadline is not None:
            self.history.moves.append((session, time.time(), deadline.timestamp()))

    async def loop(self) -> None:
        """After a failover pg_cron begins with the next minute; this is its announce_boot, over and over."""
        while not self.is_over:
            with suppress(*TROUBLE):
                connection = await self.testbed.primary.connect("after_hours_jobs")
                try:
                    await connection.execute("call after_hours.announce_loop('0.25 s')", timeout=130)
                finally:
                    connection.terminate()
            await asyncio.sleep(0.2)

    # ---- clients

    def chain(self, user: UUID, kind: str) -> Chain:
        self.history.chains.append(Chain(user, kind))
        return self.history.chains[-1]

    async def steady(self, user: UUID) -> None:
        """Stays connected as long as it is let."""
        chain = self.chain(user, "steady")
        client = self.client(user, None)
        async for frame in client.frames():
            chain.frames.append((time.time(), frame))

    async def fickle(self, user: UUID) -> None:
        """Sleeps, comes back with its cursor, remembers what it has seen."""
        chain = self.chain(user, "fickle")
        cursor: str | None = None
        seen: set[str] = set()
        while not self.is_over:
            client = self.client(user, cursor)
            stop = time.monotonic() + self.random.uniform(0.5, 6)
            stream: Any = client.frames()
            try:
                while time.monotonic() < stop or (self.is_over is False and self.is_writing is False):
                    async with asyncio.timeout(0.5):
                        frame = await anext(stream)
                    if not is_event(frame) or frame["id"] not in seen:
                        chain.frames.append((time.time(), frame))
                    if is_event(frame):
                        seen.add(frame["id"])
                        cursor = frame["cursor"]
            except (TimeoutError, StopAsyncIteration):
                pass
            finally:
                await stream.aclose()
            cursor = client.cursor or cursor
            await asyncio.sleep(self.random.uniform(0, 3) if self.is_writing else 0)

    def client(self, user: UUID, cursor: str | None) -> Client:
        return Client(f"ws://127.0.0.1:{self.testbed.front.port}/ws", lambda: make_token(user), cursor, all_frames=True)

    async def poller(self, user: UUID) -> None:
        """GET /events, again and again."""
        chain = self.chain(user, "poller")
        cursor: str | None = None
        seen: set[str] = set()
        async with httpx.AsyncClient(timeout=3) as client:
            while not self.is_over:
                await asyncio.sleep(self.random.uniform(0.3, 1.2))
                try:
                    answer = await client.get(
                        f"http://127.0.0.1:{self.testbed.front.port}/events" + (f"?after={cursor}" if cursor else ""),
                        headers={"Authorization": f"Bearer {make_token(user)}"},
                    )
                    body = answer.json()
                except (httpx.HTTPError, ValueError):
                    continue
                if answer.status_code != 200:
                    continue
                events = body.pop("events")
                chain.frames.append((time.time(), {"type": "hello", **body}))
                cursor = body["cursor"]
                for event in events:
                    if event["id"] not in seen:
                        chain.frames.append((time.time(), event))
                    seen.add(event["id"])
                    cursor = event["cursor"]

    # ---- faults

    async def play(self, until: float) -> None:
        """One fault after the other, each to its end."""
        names = list(FAULTS)
        while time.monotonic() < until:
            await asyncio.sleep(self.random.uniform(1, 5))
            name = self.random.choices(names, list(FAULTS.values()))[0]
            click.echo(f"{time.strftime('%H:%M:%S')} {name}")
            try:
                await getattr(self, name)()
                self.history.faults[name] += 1
            except TROUBLE as error:
                click.echo(f"         {name} could not be played: {error!r}")

    async def kill_listen(self) -> None:
        connection = await self.testbed.primary.connect()
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'after-hours relay%'"
        )
        await connection.close()

    async def restart_postgres(self) -> None:
        await self.testbed.primary.control("restart", "-m", "fast")

    async def kill_postmaster(self) -> None:
        await self.testbed.primary.kill()
        await self.testbed.primary.start_again()

    async def black_hole(self) -> None:
        proxy = self.testbed.proxies[self.testbed.primary.port]
        proxy.swallow(True)
        await asyncio.sleep(self.random.uniform(2, 9))
        proxy.swallow(False)

    async def stop_relay(self) -> None:
        relay = self.random.choice(self.testbed.relays)
        relay.signal(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(1, 7))
        relay.signal(signal.SIGCONT)

    async def kill_relay(self) -> None:
        relay = self.random.choice(self.testbed.relays)
        relay.signal(signal.SIGKILL)
        await relay.wait()
        await asyncio.sleep(self.random.uniform(0, 2))
        relay.start()

    async def drain_relay(self) -> None:
        relay = self.random.choice(self.testbed.relays)
        relay.signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            code = await relay.wait()
        if code:
            raise AssertionError(f"a drained relay exits with {code}")
        relay.start()

    async def fail_over(self) -> None:
        self.history.failovers.append(time.time())
        await self.testbed.fail_over()
        self.history.failovers.append(time.time())
        await asyncio.sleep(self.random.uniform(2, 5))
        await self.testbed.add_standby()

    async def second_loop(self) -> None:
        connection = await self.testbed.primary.connect("after_hours_jobs")
        with suppress(TimeoutError):
            await connection.execute("call after_hours.announce_loop('30.25 s')", timeout=self.random.uniform(1, 4))
        connection.terminate()

    async def forge(self) -> None:
        connection = await self.testbed.primary.connect("after_hours_app")
        user = self.random.choice(self.users)
        session = str(uuid4())
        forged = {"type": "after_hours:session_expired", "id": session, "cursor": "aaaaaaaa-1", "sessionId": session}
        forged["userId"] = str(user)
        for _ in range(50):
            await connection.execute("select pg_notify('after_hours_events', $1)", json.dumps(forged))
        await connection.close()

    # ---- the run

    async def run(self, seconds: float, settle: float = 30) -> tuple[dict[str, int], list[str]]:
        """Play for so long, let everything settle, check. Returns totals and breaches."""
        try:
            await self.testbed.set_up()
            connection = await self.testbed.primary.connect()
            await connection.execute("update after_hours.settings set warning_lead = '2 seconds'")
            await connection.close()
            await self.until_ready()
            kinds = (self.steady, self.fickle, self.poller)
            tasks = [asyncio.create_task(kinds[number % 3](user)) for number, user in enumerate(self.users)]
            tasks += [asyncio.create_task(self.steady(user)) for user in self.users[:10]]
            tasks.append(asyncio.create_task(self.loop()))
            await asyncio.sleep(2)
            writing = [asyncio.create_task(self.write()) for _ in range(3)]
            await self.play(time.monotonic() + seconds)
            self.is_writing = False
            await asyncio.gather(*writing)
            await self.until_ready()
            await asyncio.sleep(settle)  # every deadline passes, clients that back off come back
            self.is_over = True
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome
            connection = await self.testbed.primary.connect()
            events = await connection.fetch("select * from after_hours.events order by id")
            unannounced = await connection.fetchval(
                "select count(*) from public.after_hours_sessions as s where not exists (select from"
                " after_hours.events as e where e.type = 'after_hours:session_expired' and e.session_id = s.id"
                " and e.deadline = least(s.ended_at, s.expires_at))"
            )
            await connection.close()
            self.history.reads = self.testbed.reads()
            return check(self.history, events, unannounced)
        finally:
            await self.testbed.tear_down()

    async def until_ready(self) -> None:
        """Both relays say that they are."""
        for relay in self.testbed.relays:
            await wait_until(relay.is_ready, 60, interval=0.1)


BREACHES = ("lost", "duplicated", "misdelivered", "reordered", "out of date", "unread", "unannounced")


def report(seed: int, seconds: float, soak: Soak, totals: dict[str, int], breaches: list[str]) -> bool:
    """Print it; True if nothing was breached."""
    click.echo(f"seed {seed}, {seconds:.0f} s, faults: {dict(soak.history.faults)}")
    click.echo(", ".join(f"{name} {count}" for name, count in totals.items() if name not in BREACHES))
    click.echo(", ".join(f"{name} {totals.get(name, 0)}" for name in BREACHES))
    for breach in breaches[:20]:
        click.echo(breach)
    return not any(totals.get(name, 0) for name in BREACHES)


@click.command()
@click.option("--minutes", type=float, default=5.0, show_default=True)
@click.option("--seed", type=int, default=None, help="What is played, and when; printed at the end.")
def main(minutes: float, seed: int | None) -> None:
    """The fault matrix for long."""
    chosen = seed if seed is not None else random.randrange(10**6)
    soak = Soak(chosen)
    totals, breaches = asyncio.run(soak.run(minutes * 60))
    sys.exit(0 if report(chosen, minutes * 60, soak, totals, breaches) else 1)


if __name__ == "__main__":
    main()
