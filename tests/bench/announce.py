"""./dev bench announce: how late announcing is, and what it costs others, beside the alternatives, in one run.

Figures go to tests/bench/results/announce.json, and from there into the README (python scripts/render.py).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import statistics
import subprocess
import time
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from relay.client import Client
from tests.bench.machine import describe, save
from tests.conftest import Instance
from tests.helpers import REPO, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

EXPIRED = "after_hours:session_expired"
BULLMQ = Path(__file__).with_name("bullmq.mjs")
WATCHED = "0b0b0b0b-0000-4000-8000-00000000000b"  # the user whose events the real client sees: one in 50


def percentiles(late: list[float]) -> list[str]:
    """p50, p99, max in milliseconds."""
    ordered = sorted(late)
    return [f"{value:,.1f}" for value in (statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1])]


class Listener:
    """Notes when each NOTIFY arrives, on the clock that deadlines are read by: both run on this machine."""

    def __init__(self) -> None:
        self.arrivals: dict[str, datetime] = {}

    def hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        at = datetime.now(UTC)
        event = json.loads(str(payload))
        if event["type"] == EXPIRED:
            self.arrivals[event["sessionId"]] = at


async def lateness(dsn: str, spread: float, count: int, *, patience: float, url: str, token: str) -> dict[str, Any]:
    """Sessions that end evenly over spread seconds; milliseconds from due to NOTIFY, and to a client of the relay."""
    connection = await asyncpg.connect(dsn)
    listening = await asyncpg.connect(dsn)
    listener = Listener()
    await listening.add_listener("after_hours_events", listener.hear)
    frames: dict[str, datetime] = {}

    async def follow() -> None:
        async for frame in Client(url, lambda: token, acks=False).frames():
            frames[frame["sessionId"]] = datetime.now(UTC)

    following = asyncio.create_task(follow())
    await asyncio.sleep(1)
    rows = await connection.fetch(
        WARNED.format(
            "select case when i % 50 = 0 then $3::uuid else gen_random_uuid() end, e.at - interval '1 hour', e.at "
            "from (select i, clock_timestamp() + interval '3 seconds' + make_interval(secs => $1::float8 * i / $2) as at "
            "      from generate_series(1, $2::integer) as i) as e"
        ),
        spread, count, uuid.UUID(WATCHED),
    )  # fmt: skip
    due = {str(row["id"]): row["expires_at"] for row in rows}
    end = time.monotonic() + spread + patience
    while len(listener.arrivals) < count and time.monotonic() < end:  # noqa: ASYNC110 - filled by a callback
        await asyncio.sleep(0.2)
    await asyncio.sleep(1)
    following.cancel()
    await connection.close()
    await listening.close()
    seen = {key: (at - due[key]).total_seconds() * 1000 for key, at in listener.arrivals.items() if key in due}
    client = {key: (at - due[key]).total_seconds() * 1000 for key, at in frames.items() if key in due}
    assert len(seen) == count, f"{len(seen)} of {count} events arrived"
    return {
        "notify": list(seen.values()),
        "client": list(client.values()),
        "last": (max(listener.arrivals.values()) - max(due.values())).total_seconds() * 1000,
        "early": sum(late < 0 for late in seen.values()),
    }


def pgbench(dsn: str, script: str, seconds: int) -> float:
    """Commits per second of 8 writers."""
    path = REPO / ".local" / "bench-writer.sql"
    path.parent.mkdir(exist_ok=True)
    path.write_text(script)
    binary = shutil.which("pgbench") or str(max(Path("/usr/lib/postgresql").glob("*/bin/pgbench")))
    out = subprocess.run(
        [binary, "-n", "-c", "8", "-j", "1", "-T", str(seconds), "-f", str(path), dsn],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    match = re.search(r"tps = ([\d.]+)", out)
    assert match is not None
    return float(match[1])


# Sessions whose warnings have been told: only their ends are measured.
WARNED = """
    with made as (
        insert into public.after_hours_sessions (user_id, started_at, expires_at) {} returning id, expires_at
    ),
    warned as (
        insert into after_hours.events (uid, epoch, type, session_id, user_id, deadline, due_at, emitted_at, body)
        select gen_random_uuid(), (select e.name from after_hours.epochs as e order by e.ordinal desc limit 1),
            'after_hours:session_expiring', m.id, gen_random_uuid(), m.expires_at, now(), now(), '{{}}'
        from made as m
    )
    select id, expires_at from made
"""
WRITE = "update public.bench_writers set n = n + 1 where id = :client_id;\n"


def writers(instance: Instance, seconds: int) -> list[list[str]]:
    """What announcing costs 8 writers that have nothing to do with it."""
    dsn = instance.dsn()
    rows = []
    with instance.connect() as db:
        db.execute("create table public.bench_writers (id integer primary key, n bigint not null default 0)")
        db.execute("insert into public.bench_writers select i from generate_series(0, 7) as i")
        notify = WRITE.replace(";\n", " returning pg_notify('bench', n::text);\n")
        for name, script, events in (
            ("no announcing", WRITE, 0),
            ("ours, 1,000 events/s", WRITE, 1000),
            ("each commit NOTIFYs", notify, 0),
        ):
            if events:
                db.execute(
                    WARNED.format(
                        "select gen_random_uuid(), e.at - interval '1 hour', e.at from (select clock_timestamp() "
                        "+ make_interval(secs => 1 + i / 1000.0) as at from generate_series(1, %s * 1000) as i) as e"
                    ).encode(),
                    (seconds,),
                )
                time.sleep(1)
            rows.append([name, f"{pgbench(dsn, script, seconds):,.0f}"])
        db.execute("drop table public.bench_writers")
    return rows


def cost(instance: Instance, millions: float) -> list[list[str]]:
    """announce_due() with 0, 1,000 and 50,000 due among so many sessions: time, buffers, WAL."""
    rows = []
    with instance.connect() as db:
        db.execute("select after_hours.pause_job('announce', clock_timestamp() + interval '1 hour', 'bench')")
        time.sleep(1.5)
        db.execute(
            "insert into public.after_hours_sessions (user_id, started_at, expires_at) "
            "select gen_random_uuid(), e.at - interval '1 hour', e.at "
            "from (select i, case when i %% 10 > 0 then clock_timestamp() - make_interval(secs => i) "
            "      else clock_timestamp() + interval '1 day' + make_interval(secs => i) end as at "
            "      from generate_series(1, (%s * 1000000)::integer) as i) as e",
            (millions,),
        )
        db.execute(
            "insert into after_hours.events (uid, epoch, type, session_id, user_id, deadline, due_at, emitted_at, body) "
            "select gen_random_uuid(), (select e.name from after_hours.epochs as e order by e.ordinal desc limit 1), %s, "
            "s.id, s.user_id, s.expires_at, s.expires_at, s.expires_at, '{}' "
            "from public.after_hours_sessions as s where s.expires_at < now() order by s.expires_at",
            (EXPIRED,),
        )
        db.execute("update after_hours.settings set announce_since = '2000-01-01', announce_batch = 50000")
        db.execute("vacuum analyze after_hours.events")
        db.execute("vacuum analyze public.after_hours_sessions")
        db.execute("checkpoint")
        for due in (0, 1000, 50_000):
            if due:
                db.execute(
                    "insert into public.after_hours_sessions (user_id, started_at, expires_at) "
                    "select gen_random_uuid(), now() - interval '1 hour', now() - interval '1 second' "
                    "from generate_series(1, %s)",
                    (due,),
                )
            else:
                for _ in range(6):  # plans cached, as in a loop
                    db.execute("select after_hours.announce_due()")
            before = db.execute("select pg_current_wal_lsn() as at").fetchone()
            explain = db.execute("explain (analyze, buffers, format json) select after_hours.announce_due()").fetchone()
            after = db.execute("select pg_current_wal_lsn() - %s::pg_lsn as bytes", (before.at,)).fetchone()  # type: ignore[union-attr]
            plan = explain[0][0]["Plan"]  # type: ignore[index]
            rows.append(
                [
                    f"{due:,}",
                    f"{plan['Actual Total Time']:,.2f} ms",
                    f"{plan['Shared Hit Blocks'] + plan['Shared Read Blocks']:,}",
                    f"{int(after.bytes) / 1e6:,.2f} MB",  # type: ignore[union-attr]
                ]
            )
    return rows


TOUCH = """
    alter table public.after_hours_sessions add column if not exists updated_at timestamptz;
    create or replace function public.bench_touch() returns trigger language plpgsql as
    $$ begin new.updated_at := clock_timestamp(); return new; end $$;
    create trigger bench_touch before update on public.after_hours_sessions
    for each row execute function public.bench_touch()
"""


def marks(instance: Instance, sessions: int) -> list[list[str]]:
    """What a day's warnings and ends leave behind in the sessions table, without and with an updated_at trigger."""
    rows = []
    measure = (
        "select pg_current_wal_lsn() - '0/0'::pg_lsn as wal, pg_relation_size('public.after_hours_sessions') as heap, "
        "pg_indexes_size('public.after_hours_sessions') as indexes, clock_timestamp() as at"
    )
    with instance.connect() as db:
        for name, prepare in (
            ("the table as installed", "select 1"),
            ("with an updated_at trigger of the application", TOUCH),
        ):
            db.execute("truncate public.after_hours_sessions; delete from after_hours.events")
            db.execute(prepare)
            db.execute(
                "insert into public.after_hours_sessions (user_id, started_at, expires_at) "
                "select gen_random_uuid(), now() - interval '1 hour', clock_timestamp() + interval '1 minute' "
                "from generate_series(1, %s)",
                (sessions,),
            )
            db.execute("vacuum analyze public.after_hours_sessions")
            before = db.execute(measure).fetchone()
            while db.execute("select has_more from after_hours.announce_due(5000)").fetchone().has_more:  # type: ignore[union-attr]
                pass
            took = db.execute(measure).fetchone()
            rows.append(
                [
                    name,
                    f"{(took.at - before.at).total_seconds() / sessions * 1e6:,.0f} µs",  # type: ignore[union-attr]
                    f"{(took.wal - before.wal) / sessions:,.0f} B",  # type: ignore[union-attr]
                    f"{(took.heap - before.heap) / sessions:,.0f} B",  # type: ignore[union-attr]
                    f"{(took.indexes - before.indexes) / sessions:,.0f} B",  # type: ignore[union-attr]
                ]
            )
        db.execute("drop trigger bench_touch on public.after_hours_sessions; drop function public.bench_touch()")
    return rows


def every_second(instance: Instance, measured: Callable[[], dict[str, Any]]) -> list[list[str]]:
    """The plain tick once a second, which pg_cron can from 1.5 on; no row before that."""
    with instance.connect() as db:
        version = db.execute("select extversion from pg_extension where extname = 'pg_cron'").fetchone()
        if tuple(int(part) for part in re.findall(r"\d+", version[0])[:2]) < (1, 5):  # type: ignore[index]
            return []
        db.execute("select cron.schedule('bench_every_second', '1 second', 'select after_hours.announce_due()')")
        try:
            found = measured()
        finally:
            db.execute("select cron.unschedule('bench_every_second')")
    return [[f"plain job every second (pg_cron {version[0]})", *percentiles(found["notify"]), ""]]  # type: ignore[index]


def bullmq(scratch: Path, spread: float, count: int) -> list[list[str]]:
    """The usual delayed-job queue: BullMQ on Redis, default and tuned; lateness where the job runs."""
    if shutil.which("redis-server") is None:
        return [["BullMQ on Redis", "not measured: apt-get install redis-server", "", ""]]
    scratch.mkdir(parents=True, exist_ok=True)
    shutil.copy(BULLMQ, scratch)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "bullmq@5"], cwd=scratch, check=True)
    port = free_port()
    redis = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1", "--dir", str(scratch)],
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(1)
        rows = []
        for name, mode in (("BullMQ on Redis, default", "default"), ("BullMQ on Redis, tuned", "tuned")):
            out = subprocess.run(
                ["node", BULLMQ.name, str(port), str(spread), str(count), mode],
                cwd=scratch, capture_output=True, text=True, check=True, timeout=spread + 120,
            ).stdout  # fmt: skip
            found = json.loads(out)
            rows.append([name, *percentiles(found["late"]), f"{found['last']:,.0f}"])
        return rows
    finally:
        redis.terminate()
        redis.wait()


def measure(scale: float, millions: float) -> None:
    """Everything, in one run, printed and saved."""
    per_minute = int(10_000 * scale)
    with ExitStack() as stack:
        home = REPO / ".local" / "bench" / uuid.uuid4().hex[:8]
        names = ("AFTER_HOURS_PG_PORT", "RELAY_PORT", "RELAY_ADMIN_PORT", "DEMO_PORT")
        instance = Instance(home, {name: str(free_port()) for name in names})
        stack.callback(instance.dev, "down", "--delete", check=False)
        instance.dev("up", "--detach")
        dsn = instance.dsn()
        url = f"ws://127.0.0.1:{instance.ports['RELAY_PORT']}/ws"
        token = instance.dev("token", WATCHED).stdout.strip()
        time.sleep(61 - datetime.now(UTC).second)  # both loops run from the full minute on

        def run(spread: float, count: int, patience: float) -> dict[str, Any]:
            return asyncio.run(lateness(dsn, spread, count, patience=patience, url=url, token=token))

        spread = 200.0  # three minute boundaries at least
        ours = run(spread, int(per_minute * spread / 60), 20)
        burst = run(1.0, per_minute, 20)
        late = [["ours, pg_cron + LISTEN", *percentiles(ours["notify"]), f"{burst['last']:,.0f}"]]
        late.append(["ours, at a client of the relay", *percentiles(ours["client"]), ""])
        with instance.connect() as db:
            db.execute("update after_hours.settings set announce_mode = 'tick'")
            db.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'call after_hours.announce%'"
            )
        tick = run(60.0, per_minute, 125)
        late.append(["plain per-minute pg_cron job", *percentiles(tick["notify"]), ""])
        late += every_second(instance, lambda: run(60.0, per_minute, 30))
        with instance.connect() as db:
            db.execute("update after_hours.settings set announce_mode = 'auto'")
        late += bullmq(home / "bullmq", 60.0, per_minute)
        tables: list[dict[str, Any]] = [
            {
                "caption": f"Due → received, {per_minute:,} ends a minute, across at least three minute boundaries; "
                f"nothing early: {ours['early'] + burst['early']} of {len(ours['notify']) + len(burst['notify']):,}",
                "columns": [
                    "",
                    "p50 ms",
                    "p99 ms",
                    "max ms",
                    f"{per_minute:,} in one second: last, ms after the last due",
                ],
                "rows": late,
            }
        ]
        time.sleep(61 - datetime.now(UTC).second)
        tables.append(
            {
                "caption": "Commits per second of 8 writers",
                "columns": ["announcing", "commits/s"],
                "rows": writers(instance, 10),
            }
        )
        tables.append(
            {
                "caption": f"One announce_due() among {millions:g} million sessions",
                "columns": ["due", "time", "buffers", "WAL"],
                "rows": cost(instance, millions),
            }
        )
        tables.append(
            {
                "caption": "One warning: time and WAL with its event; dead space in the sessions table until VACUUM",
                "columns": ["", "time", "WAL", "heap", "indexes"],
                "rows": marks(instance, int(100_000 * scale)),
            }
        )
    save("announce", tables)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1: 10,000 ends a minute")
    parser.add_argument("--millions", type=float, default=10.0, help="sessions in the table for the cost figures")
    arguments = parser.parse_args()
    print(describe())
    measure(arguments.scale, arguments.millions)
