"""./dev bench purge: ours against the usual two DELETEs, on the same data, with an application inserting all the while.

Figures go to tests/bench/results/purge.json, and from there into the README (python scripts/render.py).
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.bench.machine import describe, save
from tests.conftest import Instance
from tests.helpers import REPO, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection

MATCHES = 200_000  # at scale 1, with 50 messages each: 10 million
PER_MATCH = 50

# Messages lie as time brought them: a hundred matches are talking at once. The first 56 % of the matches are past their
# retention; a tenth of those is saved, one in 200 held.
LOAD = """
    set session_replication_role = replica;
    create temp table seed as
    select gen_random_uuid() as id, n from generate_series(1, {matches}) as n;
    insert into public.after_hours_matches (id, user_a, user_b, created_at, expires_at, converted_to_match_id)
    select id, gen_random_uuid(), gen_random_uuid(), now(),
        now() - interval '30 days' - ({due} - n) * interval '1 day' / 10000,
        case when n % 10 = 0 then gen_random_uuid() end
    from seed order by n;
    insert into public.after_hours_messages (match_id, sender_id, body, created_at)
    select s.id, s.id, repeat('After hours we talk. ', 2) || g, now()
    from seed as s cross join generate_series(1, {per_match}) as g
    order by s.n / 100, g, s.n;
    insert into after_hours.holds (match_id, kind, reason, placed_by)
    select id, 'report', 'bench', 'bench' from seed where n % 200 = 1 and n <= {due};
    reset session_replication_role;
"""

# what one finds when one asks for a nightly clean-up job
THEIRS = """
    begin;
    delete from public.after_hours_messages where match_id in (
        select m.id from public.after_hours_matches as m
        where m.expires_at < now() - interval '30 days' and m.converted_to_match_id is null
            and not exists (select from after_hours.holds as h where h.match_id = m.id));
    delete from public.after_hours_matches as m
        where m.expires_at < now() - interval '30 days' and m.converted_to_match_id is null
            and not exists (select from after_hours.holds as h where h.match_id = m.id);
    commit;
"""
BLOCKS_READ = "select blks_read from pg_stat_database where datname = current_database()"
OURS = "CALL after_hours.purge(p_override_brake => 'bench')"


@dataclass
class Load:
    """Fifty inserts a second, each timed from the instant at which it was to begin."""

    connection: Connection
    late: list[float] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        due = time.perf_counter()
        while not self.stopped.is_set():
            due += 0.02
            time.sleep(max(due - time.perf_counter(), 0))
            self.connection.execute(
                "insert into public.after_hours_messages (match_id, sender_id, body) values (%s, %s, 'bench')",
                (self.match, self.match),
            )
            self.late.append((time.perf_counter() - due) * 1000)

    def __enter__(self) -> Load:
        row = self.connection.execute(
            "select id from public.after_hours_matches order by expires_at desc limit 1"
        ).fetchone()
        assert row is not None
        self.match = row[0]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopped.set()
        self.thread.join()

    def figures(self) -> list[str]:
        """p50, p99, max in ms."""
        ordered = sorted(self.late)
        return [
            f"{value:.1f}" for value in (statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1])
        ]


@dataclass
class Watch:
    """The longest transaction of a backend, looked at every few milliseconds."""

    connection: Connection
    pid: int
    longest: float = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stopped.wait(0.004):
            row = self.connection.execute(
                "select extract(epoch from clock_timestamp() - xact_start) from pg_stat_get_activity(%s)", (self.pid,)
            ).fetchone()
            if row is not None and row[0] is not None:
                self.longest = max(self.longest, float(row[0]))


def measure(connect: Callable[[], Connection], work: str | None, *, old_snapshot: bool, idle: float) -> dict[str, Any]:
    """One run on a fresh copy: duration, deletions a second, longest transaction, WAL, the foreground."""
    with ExitStack() as stack:
        eye, worker, writer, watcher, reader = (stack.enter_context(connect()) for _ in range(5))
        if old_snapshot:
            reader.execute("begin isolation level repeatable read")
            reader.execute("select count(*) from public.after_hours_matches")
        eye.execute("checkpoint")
        os.sync()  # the copy itself must be on disk, or the first seconds measure that
        time.sleep(3)
        count = "select count(*) from public.after_hours_messages where body <> 'bench'"
        before = eye.execute(count).fetchone()[0] if work else 0  # type: ignore[index]
        wal = eye.execute("select pg_current_wal_lsn()").fetchone()[0]  # type: ignore[index]
        read = eye.execute(BLOCKS_READ).fetchone()[0]  # type: ignore[index]
        watch = Watch(watcher, worker.info.backend_pid)
        thread = threading.Thread(target=watch.run)
        thread.start()
        with Load(writer) as load:
            started = time.perf_counter()
            if work is None:
                time.sleep(idle)
            else:
                worker.execute(work.encode())
            seconds = time.perf_counter() - started
        watch.stopped.set()
        thread.join()
        worker.execute("select pg_stat_force_next_flush()")
        read = eye.execute(BLOCKS_READ).fetchone()[0] - read  # type: ignore[index]
        written = eye.execute("select pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", (wal,)).fetchone()[0]  # type: ignore[index]
        gone = before - eye.execute(count).fetchone()[0] if work else 0  # type: ignore[index]
        run = eye.execute(
            "select longest_batch, batches, status from after_hours.purge_runs order by id desc limit 1"
        ).fetchone()
        return {
            "seconds": seconds, "gone": gone, "rate": gone / seconds, "wal": float(written) / 2**20, "read": read * 8192 / 2**20,
            "longest": watch.longest if work else 0, "load": load, "run": run,
        }  # fmt: skip


def time_preview(connection: Connection) -> float:
    """Seconds that the preview takes with a day's worth overdue: the rest is made too young for a moment."""
    with connection.transaction(force_rollback=True):
        connection.execute(
            "update after_hours.settings set retention = now() - interval '1 day' - "
            "(select min(expires_at) from public.after_hours_matches)"
        )
        started = time.perf_counter()
        connection.execute("select * from after_hours.purge_preview()").fetchall()
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench purge", description=__doc__)
    parser.add_argument("--scale", type=float, default=1, help="1 is 10 million messages, 5 million of them due")
    parser.add_argument("--idle", type=float, default=20, help="seconds of the application alone, as the baseline")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured; the median run is shown")
    options = parser.parse_args()
    matches = int(MATCHES * options.scale)
    due = int(matches * 0.5587)
    machine = describe()
    with ExitStack() as stack:
        names = ("AFTER_HOURS_PG_PORT", "RELAY_PORT", "RELAY_ADMIN_PORT", "DEMO_PORT")
        instance = Instance(
            REPO / ".local" / "bench" / uuid.uuid4().hex[:8], {name: str(free_port()) for name in names}
        )
        stack.callback(instance.dev, "down", "--delete", check=False)
        instance.dev("cluster")
        with instance.connect() as connection:
            connection.execute("select after_hours.uninstall_jobs()")
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'call after_hours%'"
            )
            print(f"loading {matches * PER_MATCH:,} messages", flush=True)
            connection.execute(LOAD.format(matches=matches, due=due, per_match=PER_MATCH).encode())
            connection.execute("vacuum (analyze) public.after_hours_messages")
            connection.execute("vacuum (analyze) public.after_hours_matches")
            connection.execute("analyze after_hours.holds")
            connection.execute("alter system set max_wal_size = '4GB'")
            connection.execute("select pg_reload_conf()")
            preview = time_preview(connection)
            print(f"purge_preview(), a day's worth due: {preview:.2f} s", flush=True)
        cases = [
            ("the application alone", None, False),
            ("two DELETEs", THEIRS, False),
            ("`CALL after_hours.purge()`", OURS, False),
            ("two DELETEs, old snapshot open", THEIRS, True),
            ("`CALL after_hours.purge()`, old snapshot open", OURS, True),
        ]
        rows, results = [], {}
        for name, work, old_snapshot in cases:
            runs = []
            for _ in range(options.rounds):
                with instance.connect(dbname="postgres") as admin:
                    admin.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'after_hours'"
                    )
                    admin.execute("drop database if exists bench with (force)")
                    for attempt in range(50):
                        try:
                            admin.execute("create database bench template after_hours strategy file_copy")
                            break
                        except Exception:
                            if attempt == 49:
                                raise
                            admin.execute(
                                "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'after_hours'"
                            )
                            time.sleep(0.2)
                runs.append(
                    measure(
                        lambda: instance.connect(dbname="bench"), work, old_snapshot=old_snapshot, idle=options.idle
                    )
                )
                print(
                    name,
                    {key: value for key, value in runs[-1].items() if key != "load"},
                    runs[-1]["load"].figures(),
                    flush=True,
                )
            run = sorted(runs, key=lambda one: one["seconds"])[len(runs) // 2]
            results[name] = run
            rows.append([
                name,
                *(["-"] * 5 if work is None else
                  [f"{run['seconds']:.1f}", f"{run['rate'] / 1000:,.0f}k", f"{run['longest'] * 1000:,.0f} ms",
                   f"{run['read']:,.0f} MB", f"{run['wal']:,.0f} MB"]),
                *run["load"].figures(),
            ])  # fmt: skip
    theirs, ours = results["two DELETEs"], results["`CALL after_hours.purge()`"]
    theirs_old = results["two DELETEs, old snapshot open"]
    ours_old = results["`CALL after_hours.purge()`, old snapshot open"]
    alone = float(results["the application alone"]["load"].figures()[1])
    save("purge", [
        {
            "caption": f"{theirs['gone'] / 1e6:.2g} million messages purged among {matches * PER_MATCH / 1e6:.2g} million, "
            "10 % of the matches saved, 0.5 % held; the application inserts 50 messages a second (their time in ms)",
            "columns": ["", "s", "messages/s", "longest transaction", "blocks read", "WAL", "insert p50", "p99", "max"],
            "rows": rows,
        },
        {
            "caption": "Against the targets of P9. What limits ours is CPU per match: of its time the DELETE takes 25 %, the foreign "
            "key's check 25 %, counting the messages for the tombstones 15 %, locking and checking again 9 %, tombstones and "
            "their hash 7 %; two DELETEs pay the first two only (pg_stat_statements)",
            "columns": ["", "target", "measured"],
            "rows": [
                ["throughput, ours / two DELETEs", "≥ 1.0", f"{theirs['seconds'] / ours['seconds']:.2f}"],
                ["longest transaction", "≤ 100 ms", f"{ours['longest'] * 1000:.0f} ms"],
                ["insert p99, ours / alone", "≤ 1.5", f"{float(ours['load'].figures()[1]) / alone:.1f}"],
                ["insert p99, two DELETEs / alone", "", f"{float(theirs['load'].figures()[1]) / alone:.1f}"],
                ["time with an old snapshot open, ours / without", "≤ 1.2", f"{ours_old['seconds'] / ours['seconds']:.2f}"],
                ["the same, two DELETEs", "", f"{theirs_old['seconds'] / theirs['seconds']:.2f}"],
                ["`purge_preview()`, a day's worth due", "< 1 s", f"{preview:.2f} s"],
            ],
        },
    ], machine)  # fmt: skip


if __name__ == "__main__":
    main()
