"""./dev bench locks: each table locked for three seconds in each way, three for 70 s, all parts at work; for docs/operations.md.

Real pg_cron runs the announce loops. Purge, housekeeping, the relay's and the sender's calls, health, the doctor and an
upgrade are repeated by threads. For each lock: how long after its end each part goes on, what raised an error, and whether
health named the holder meanwhile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import namedtuple_row

from tests.bench.machine import save
from tests.conftest import Instance
from tests.helpers import REPO, find_tool, free_port, poll_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.conftest import Connection

WAYS = ("EXCLUSIVE", "ACCESS EXCLUSIVE", "waiting", "prepared")
LONG_SECONDS = 70  # longer than each lock_timeout and two heartbeats
LONG_TABLES = ("after_hours_sessions", "after_hours_matches", "after_hours.events")
TABLES = """
    select c.oid::regclass::text as name from pg_class as c
    where c.relkind = 'r' and (c.relnamespace = 'after_hours'::regnamespace
        or c.relnamespace = 'public'::regnamespace and c.relname like 'after_hours_%' and c.relname not like '%alembic%')
    order by c.relnamespace <> 'public'::regnamespace, c.relname
"""
LOOPS = "select pid from pg_stat_activity where query ilike 'call after_hours.announce_loop%' and state <> 'idle'"
SESSIONS = """
    insert into public.after_hours_sessions (user_id, started_at, expires_at, ended_at)
    select gen_random_uuid(), e.at - interval '1 hour', e.at, e.at
    from (select clock_timestamp() + i * interval '0.1 s' as at from generate_series(3, %s) as i) as e
    returning id
"""
MATCHES = """
    with made as (
        insert into public.after_hours_matches (user_a, user_b, created_at, expires_at)
        select gen_random_uuid(), gen_random_uuid(), now() - interval '90 days', now() - interval '31 days'
        from generate_series(1, 50) returning id, user_a
    )
    insert into public.after_hours_messages (match_id, sender_id, body) select id, user_a, 'hi' from made
"""
DUMPED = """
    select from pg_locks as l join pg_stat_activity as a using (pid)
    where l.relation = %s::regclass and l.granted and a.application_name = 'pg_dump'
"""
LATE = """
    select max(extract(epoch from e.emitted_at - greatest(e.due_at, %s)))::float as late, count(*) as n
    from after_hours.events as e
    where e.session_id = any(%s) and e.type = 'after_hours:session_expired'
"""
ATTACH = "select * from after_hours.relay_attach(array[gen_random_uuid()], array[null], array[now()])"
# name: role, statements, seconds between two rounds, the relay's and the sender's limit for a call
PARTS: dict[str, tuple[str, tuple[str, ...], float, str]] = {
    "relay": ("after_hours_relay", ("select * from after_hours.relay_events(null)", ATTACH), 0.05, "2.5s"),
    "push": ("after_hours_push", ("select * from after_hours.push_claim('bench')",), 0.1, "0"),
    "purge": ("after_hours_jobs", ("call after_hours.purge()",), 0.2, "0"),
    "housekeeping": ("after_hours_jobs", ("call after_hours.housekeeping()",), 0.5, "0"),
    "health": ("postgres", ("select count(*) from after_hours.health",), 0.3, "0"),
    "doctor": ("postgres", ("select count(*) from after_hours.doctor()",), 1, "0"),
}


@dataclass
class Part:
    """One part at work: when its rounds ended, and what they raised."""

    dsn: str
    name: str
    over: threading.Event = field(default_factory=threading.Event)
    ended: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    longest: float = 0.0

    def start(self) -> None:
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def stop(self) -> None:
        self.over.set()
        self.thread.join()

    def run(self) -> None:
        role, statements, pause, limit = PARTS[self.name]
        with closing(connect(self.dsn, role)) as connection:
            connection.execute(f"set statement_timeout = '{limit}'".encode())
            while not self.over.wait(pause):
                began = time.monotonic()
                try:
                    for statement in statements:
                        connection.execute(statement.encode())
                    self.ended.append(time.monotonic())
                except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
                    if self.name != "relay":  # which asks again
                        self.errors.append(f"{self.name}: {error}")
                except psycopg.Error as error:
                    self.errors.append(f"{self.name}: {str(error).partition(chr(10))[0]}")
                self.longest = max(self.longest, time.monotonic() - began)


@dataclass
class Outcome:
    """What one lock did: seconds after its end, by part; errors; whether health named the holder."""

    after: dict[str, float]
    errors: list[str]
    is_named: bool
    health: float


def connect(dsn: str, role: str = "postgres", **options: Any) -> Connection:
    """As Instance.connect(), without asking ./dev each time."""
    options.setdefault("autocommit", True)
    return psycopg.connect(dsn.replace("//postgres@", f"//{role}@"), row_factory=namedtuple_row, **options)


def locked(dsn: str, table: str, way: str) -> Iterator[str]:
    """Take the lock; yields what health has to show of its holder; lets it go."""
    lock = f"lock table {table} in {way if way in WAYS[:2] else 'ACCESS EXCLUSIVE'} mode".encode()
    with closing(connect(dsn, autocommit=False)) as holder, closing(connect(dsn)) as other:
        if way == "waiting":
            # It has locked all tables and waits for somebody to read its output, as one of a large database writes for long.
            dump = subprocess.Popen([find_tool("pg_dump"), dsn], stdout=subprocess.PIPE)
            poll_until(lambda: other.execute(DUMPED, (table,)).fetchall(), what="a pg_dump")

            def wait() -> None:
                with suppress(psycopg.Error):
                    holder.execute(lock)

            waiting = threading.Thread(target=wait)
            waiting.start()
            yield f"pid {holder.info.backend_pid}"
            holder.cancel_safe()
            waiting.join()
            dump.kill()
            dump.communicate()
        elif way == "prepared":
            holder.execute(lock)
            holder.execute("prepare transaction 'bench'")
            yield "prepared transaction 'bench'"
            other.execute("rollback prepared 'bench'")
        else:
            holder.execute(lock)
            yield f"pid {holder.info.backend_pid}"
        with suppress(psycopg.Error):
            holder.rollback()


def measure(dsn: str, db: Connection, table: str, way: str, seconds: float) -> Outcome:
    """One lock, held for so many seconds."""
    poll_until(lambda: len(db.execute(LOOPS).fetchall()) == 2, 90, what="two announce loops")
    db.execute(MATCHES)
    sessions = [row.id for row in db.execute(SESSIONS, (int(seconds * 10) + 20,)).fetchall()]
    parts = [Part(dsn, name) for name in PARTS]
    holding = locked(dsn, table, way)
    holder = next(holding)
    for part in parts:
        part.start()
    environment = {"AFTER_HOURS_DSN": dsn, "PATH": "/usr/bin:/bin"}
    upgrade = subprocess.Popen(
        [sys.executable, "-m", "alembic", "-x", f"wait={seconds + 60:g}", "upgrade", "head"],
        cwd=REPO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    time.sleep(max(seconds - 0.5, 0))
    row = db.execute("select detail from after_hours.health where check_name = 'locks'").fetchone()
    time.sleep(0.3)
    next(holding, None)
    freed, clock = time.monotonic(), db.execute("select clock_timestamp() as at").fetchall()[0].at
    output = upgrade.communicate(timeout=90)[0]
    upgraded = time.monotonic()

    def goes_on() -> bool:
        return all(any(at > freed for at in part.ended) for part in parts)

    with suppress(TimeoutError):
        poll_until(goes_on, 20)

    def told() -> Any:
        return next((each for each in db.execute(LATE, (clock, sessions)).fetchall() if each.n == len(sessions)), None)

    try:
        late = poll_until(told)
    except TimeoutError:
        print(db.execute("select * from after_hours.health where not ok").fetchall(), file=sys.stderr)
        raise
    for part in parts:
        part.stop()
    after = {part.name: min((at - freed for at in part.ended if at > freed), default=99.0) for part in parts}
    errors = [error for part in parts for error in part.errors]
    if upgrade.returncode:
        errors.append(f"upgrade: {output.strip().splitlines()[-1]}")
    return Outcome(
        {"announcing": late.late, "upgrade": max(upgraded - freed, 0.0), **after},
        errors,
        row is not None and holder in row.detail,
        next(part.longest for part in parts if part.name == "health"),
    )


@dataclass
class Bench:
    """All locks of a kind, one after the other; their rows for the page."""

    dsn: str
    db: Connection
    errors: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    slowest: float = 0.0  # answer of health, seconds
    columns: list[str] = field(default_factory=list)

    def measure(self, table: str, ways: Sequence[str], seconds: float) -> list[str]:
        """The table's row: per part the worst of all ways, and whether health named each holder."""
        outcomes = {way: measure(self.dsn, self.db, table, way, seconds) for way in ways}
        for way, outcome in outcomes.items():
            print(table, way, outcome, flush=True)
            for error in outcome.errors:
                self.errors[error].add(f"{table} ({way}, {seconds:g} s)")
        parts = list(outcomes[ways[0]].after)
        unnamed = [way for way, outcome in outcomes.items() if not outcome.is_named]
        self.slowest = max(self.slowest, *(outcome.health for outcome in outcomes.values()))
        self.columns = ["table", *parts, "named by health"]
        worst = [f"{max(outcome.after[part] for outcome in outcomes.values()):.2f}" for part in parts]
        return [f"`{table}`", *worst, ", ".join(unnamed) or "all"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="how long each lock is held")
    parser.add_argument("--tables", nargs="*", help="only these, and nothing is saved")
    options = parser.parse_args()
    with ExitStack() as stack:
        instance = Instance(REPO / ".local" / "bench-locks", {"AFTER_HOURS_PG_PORT": str(free_port())})
        stack.callback(instance.dev, "down", "--delete", check=False)
        instance.dev("cluster")
        with instance.connect() as db:
            db.execute("alter system set max_prepared_transactions = 5")
        instance.dev("down")
        instance.dev("cluster")
        dsn = instance.dsn()
        db = stack.enter_context(closing(connect(dsn)))
        db.execute("update after_hours.settings set receipts = true, brake_factor = 1000000")
        tables = options.tables or [row.name for row in db.execute(TABLES).fetchall()]
        bench = Bench(dsn, db)
        rows = [bench.measure(table, WAYS, options.seconds) for table in tables]
        if options.tables:
            return
        long = [bench.measure(table, ["ACCESS EXCLUSIVE"], LONG_SECONDS) for table in LONG_TABLES]
    each = (
        f"Each table locked for {options.seconds:g} s: in mode EXCLUSIVE and ACCESS EXCLUSIVE by a session, by a statement that waits "
        "behind a pg_dump, by a prepared transaction. Seconds after the end of the lock until each part goes on, the worst of the "
        "four (announcing: the latest event); whether health named the holder. The slowest answer of health took "
        f"{bench.slowest:.1f} s"
    )
    results: list[dict[str, Any]] = [
        {"caption": each, "columns": bench.columns, "rows": rows},
        {
            "caption": f"Three of them for {LONG_SECONDS} s, in mode ACCESS EXCLUSIVE",
            "columns": bench.columns,
            "rows": long,
        },
    ]
    if bench.errors:
        results.append({
            "caption": "Errors that were raised",
            "columns": ["error", "locks"],
            "rows": [[error, ", ".join(sorted(places))] for error, places in sorted(bench.errors.items())],
        })  # fmt: skip
    save("locks", results)


if __name__ == "__main__":
    main()
