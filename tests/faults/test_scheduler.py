"""P10, P2: what announcing does, and what health says, when the scheduler or its surroundings break. Real pg_cron."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.conftest import reset
from tests.helpers import poll_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Connection, Instance

LATENESS = "select extract(epoch from emitted_at - due_at)::float as late from after_hours.events"
LOOPS = "select pid from pg_stat_activity where query ilike 'call after_hours.announce_loop%' and state <> 'idle'"


@pytest.fixture(scope="module")
def scheduled(make_instance: Callable[..., Instance]) -> Instance:
    """An instance whose pg_cron runs the jobs."""
    return make_instance("cluster")


def restart(instance: Instance) -> None:
    """A server start gives a loop at once: announce_boot."""
    instance.dev("down")
    instance.dev("cluster")
    with instance.connect() as connection:
        loops(connection, 1)


@pytest.fixture
def db(scheduled: Instance) -> Iterator[Connection]:
    """A clean database in which pg_cron runs at least one loop: its heartbeat is seen after the cleaning."""
    for _ in range(3):
        with scheduled.connect() as connection:
            if connection.execute(LOOPS).fetchall():
                reset(connection)
                end = time.monotonic() + 4
                while time.monotonic() < end:
                    if connection.execute("select from after_hours.emitter where heartbeat_at is not null").fetchall():
                        yield connection
                        return
                    time.sleep(0.1)
        restart(scheduled)
    raise AssertionError("pg_cron runs no loop that lasts")


@pytest.fixture
def other(scheduled: Instance, db: Connection) -> Iterator[Callable[..., Connection]]:
    """Further connections, closed at the end whatever happens."""
    with ExitStack() as stack:

        def make(*arguments: Any, **options: Any) -> Connection:
            return stack.enter_context(scheduled.connect(*arguments, **options))

        yield make


@pytest.fixture
def spare(other: Callable[..., Connection]) -> Iterator[int]:
    """A further loop, started as pg_cron would at the next minute, which is not waited for; its pid. Lasts a minute at least."""
    connection = other("after_hours_jobs")

    def run() -> None:
        with suppress(psycopg.OperationalError):
            connection.execute("call after_hours.announce_loop('59.9 s')")

    threading.Thread(target=run, daemon=True).start()
    yield connection.info.backend_pid
    with suppress(psycopg.OperationalError):
        connection.cancel_safe()


def loops(db: Connection, wanted: int) -> list[int]:
    """Wait until at least so many loops run; their pids."""

    def enough() -> list[int]:
        pids = [row.pid for row in db.execute(LOOPS).fetchall()]
        return pids if len(pids) >= wanted else []

    return poll_until(enough, what=f"{wanted} loops")


def health(db: Connection, check: str) -> Any:
    return db.execute("select * from after_hours.health where check_name = %s", (check,)).fetchone()


def due_in(db: Connection, seconds: float, count: int = 1) -> None:
    """Sessions that end one after the other, the last in so many seconds."""
    db.execute(
        "insert into public.after_hours_sessions (user_id, started_at, expires_at, ended_at) "
        "select gen_random_uuid(), e.at - interval '1 hour', e.at, e.at "  # ended_at: no warning
        "from (select clock_timestamp() + make_interval(secs => %s * i / %s::integer) as at "
        "      from generate_series(1, %s::integer) as i) as e",
        (seconds, count, count),
    )


def latenesses(db: Connection, count: int) -> list[float]:
    """Seconds from due to emitted of so many events, waited for."""

    def enough() -> list[float]:
        late = [row.late for row in db.execute(LATENESS).fetchall()]
        return late if len(late) >= count else []

    return poll_until(enough, what=f"{count} events: {health(db, 'announcing')}")


def test_each_event_says_whether_the_loops_knew_of_it_ahead(db: Connection) -> None:
    known = (
        "select known_ahead from after_hours.events as e join public.after_hours_sessions as s on s.id = e.session_id"
        " where type like '%expired' and (s.expires_at > e.deadline) = {} order by due_at"
    )
    due_in(db, 3, count=5)  # the last in 3 s, the first in 0.6 s: the loops look each 0.9 s
    latenesses(db, 5)
    assert [row.known_ahead for row in db.execute(known.format("false").encode()).fetchall()][1:] == [True] * 4
    due_in(db, 600, count=5)
    for _ in range(5):
        db.execute(
            "update public.after_hours_sessions set ended_at = clock_timestamp() where id = (select id"
            " from public.after_hours_sessions where expires_at > now() + '1 min' and ended_at = expires_at limit 1)"
        )
        time.sleep(0.4)

    def told() -> list[Any]:
        return db.execute(known.format("true").encode()).fetchall()

    late = poll_until(lambda: len(told()) == 5 and told())
    assert late
    # one that is committed between two passes, a few ms, is taken for known
    assert [row.known_ahead for row in late].count(False) >= len(late) - 1


@pytest.mark.usefixtures("spare")
@pytest.mark.parametrize("blow", ["pg_cancel_backend", "pg_terminate_backend"])
def test_one_loop_cancelled_or_killed_the_other_carries_on(db: Connection, blow: str) -> None:
    first, *_ = loops(db, 2)
    due_in(db, 3, count=60)
    time.sleep(1)
    db.execute(f"select {blow}(%s)", (first,))
    late = latenesses(db, 60)
    assert max(late) < 2, "the promise is 0.5 s; the margin is for a busy test machine"
    assert len(late) == 60


@pytest.fixture
def no_autovacuum(db: Connection) -> Iterator[None]:
    """A minute after a cluster's start autovacuum analyzes whatever is new: a transaction id per table."""
    db.execute("alter system set autovacuum = off")
    db.execute("select pg_reload_conf()")
    try:
        end = time.monotonic() + 20
        while db.execute("select from pg_stat_activity where backend_type like 'autovacuum%'").fetchall():
            assert time.monotonic() < end, "autovacuum goes on"
            time.sleep(0.1)
        yield
    finally:
        db.execute("alter system reset autovacuum")
        db.execute("select pg_reload_conf()")


@pytest.mark.usefixtures("no_autovacuum")
def test_an_idle_loop_costs_nothing_between_heartbeats(db: Connection) -> None:
    """No transaction ids, no WAL, no transaction older than two seconds."""
    look = (
        "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as xid, heartbeat_at, "
        "pg_current_wal_insert_lsn() - '0/0'::pg_lsn as wal from after_hours.emitter"
    )
    age = (
        "select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float as age "
        f"from pg_stat_activity where pid in ({LOOPS})"
    )
    while not 2 < time.time() % 30 < 21:  # pg_cron writes its history when a loop ends and when it starts one
        time.sleep(0.1)
    before, oldest = db.execute(look).fetchone(), 0.0
    assert before is not None
    for _ in range(70):
        time.sleep(0.1)
        row = db.execute(age).fetchone()
        assert row is not None
        oldest = max(oldest, row.age)
    after = db.execute(look).fetchone()
    assert after is not None
    assert after.xid - before.xid < 5, "a transaction id each pass would be 7 at least"
    assert after.wal - before.wal < 100_000
    assert oldest < 2


def test_server_restart_is_picked_up_without_waiting_for_the_minute(scheduled: Instance) -> None:
    with scheduled.connect() as connection:
        reset(connection)
        due_in(connection, 1)
    restart(scheduled)
    with scheduled.connect() as connection:
        # well before the minute: only announce_boot can have done it
        latenesses(connection, 1)
        run = connection.execute("select status from cron.job_run_details order by runid desc limit 1").fetchone()
        assert run is not None
        row = connection.execute("select count(*) as n, max(ordinal) as o from after_hours.epochs").fetchone()
        assert row is not None
        assert row.n == 2, "the first event of the new run opened its epoch"
        loops(connection, 1)


def test_row_lock_delays_only_its_own_session(db: Connection, other: Callable[..., Connection]) -> None:
    due_in(db, 0.2)
    holder = other(autocommit=False)
    pid = holder.info.backend_pid
    holder.execute("select from public.after_hours_sessions for update")
    before = db.execute("select xact_commit from pg_stat_database where datname = current_database()").fetchone()
    due_in(db, 0.2)
    latenesses(db, 1)
    time.sleep(2.5)
    check = health(db, "overdue_events")
    assert not check.ok
    assert f"it is locked: a row by pid {pid} (role postgres" in check.detail
    assert f"pg_terminate_backend({pid})" in check.next_command
    after = db.execute("select xact_commit from pg_stat_database where datname = current_database()").fetchone()
    assert before is not None
    assert after is not None
    assert after.xact_commit - before.xact_commit < 200, "it looks again with a back-off, it does not spin"
    released = datetime.now(UTC)
    holder.rollback()
    latenesses(db, 2)
    row = db.execute("select max(emitted_at) as at from after_hours.events").fetchone()
    assert row is not None
    assert row.at - released < timedelta(seconds=1)


# Each table that a pass reads, and the one that it locks.
READ = [
    "public.after_hours_sessions",
    *(f"after_hours.{name}" for name in ("settings", "pauses", "events", "event_floor", "emitter")),
]


def assert_told_after(db: Connection, released: datetime, loop: int) -> None:
    """The event that was due meanwhile is there soon after the cause is gone, and the loop that ran before still runs."""
    latenesses(db, 1)
    row = db.execute("select min(emitted_at) as at from after_hours.events").fetchone()
    assert row is not None
    assert row.at - released < timedelta(seconds=2), "the promise is 0.5 s; the margin is for a busy test machine"
    assert loop in [row.pid for row in db.execute(LOOPS).fetchall()]


@pytest.mark.parametrize("table", READ)
def test_a_table_lock_of_three_seconds_ends_no_loop(
    db: Connection, other: Callable[..., Connection], spare: int, table: str
) -> None:
    loops(db, 2)
    due_in(db, 1.5)
    neighbour = other(autocommit=False)
    neighbour.execute(f"lock table {table} in access exclusive mode".encode())
    time.sleep(3)
    released = datetime.now(UTC)
    neighbour.rollback()
    assert_told_after(db, released, spare)


def test_ddl_that_waits_behind_a_reader_ends_no_loop(
    db: Connection, other: Callable[..., Connection], spare: int
) -> None:
    loops(db, 2)
    due_in(db, 1.5)
    reader, ddl = other(autocommit=False), other()
    reader.execute("select from public.after_hours_sessions")
    ddl.execute("set lock_timeout = '3s'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        ddl.execute("alter table public.after_hours_sessions add column zz integer")
    assert_told_after(db, datetime.now(UTC), spare)
    # each loop tells of its own failures with its next pass; the event may have been the other's
    rows = poll_until(lambda: db.execute("select failure from after_hours.emitter where failures > 0").fetchall())
    assert rows == [("canceling statement due to lock timeout (55P03)",)]
    detail = health(db, "announcing").detail
    assert "passes had no effect: canceling statement due to lock timeout (55P03)" in detail


def test_a_rewriting_alter_of_the_sessions_hides_none_of_them(
    db: Connection, other: Callable[..., Connection], spare: int
) -> None:
    """What waits for its lock inside a STABLE function goes on with an older snapshot, in which the table is empty."""
    loops(db, 2)
    ddl = other(autocommit=False)
    for number in range(1, 4):
        due_in(db, 0.5)
        ddl.execute("alter table public.after_hours_sessions add column zz double precision default random()")
        time.sleep(0.7)
        ddl.execute("alter table public.after_hours_sessions drop column zz")
        ddl.commit()
        released = datetime.now(UTC)
        latenesses(db, number)
        row = db.execute("select max(emitted_at) as at from after_hours.events").fetchone()
        assert row is not None
        assert row.at - released < timedelta(seconds=2)


def test_statement_timeout_of_the_database_does_not_reach_the_loops(scheduled: Instance) -> None:
    name = "after_hours"
    with scheduled.connect() as db:
        db.execute(f"alter database {name} set statement_timeout = '1s'")
    restart(scheduled)
    with scheduled.connect() as db:
        time.sleep(2.5)
        assert db.execute(LOOPS).fetchall()
        examine = "select * from after_hours.doctor() where subject = 'setting statement_timeout'"
        row = db.execute(examine).fetchone()
        assert row is not None
        assert row.ok
        db.execute(f"alter role after_hours_jobs in database {name} set statement_timeout = '1s'")
        row = db.execute(examine).fetchone()
        db.execute(f"alter role after_hours_jobs in database {name} reset statement_timeout")
        db.execute(f"alter database {name} reset statement_timeout")
        assert row is not None
        assert not row.ok
        assert "set statement_timeout = '0'" in row.advice


def test_both_loops_killed_rescue_bridges_and_health_says_so(db: Connection) -> None:
    db.execute(f"select pg_terminate_backend(pid, 5000) from ({LOOPS}) as l")
    due_in(db, -9, count=3)  # due three, six and nine seconds ago
    check = health(db, "announce_mode")
    assert not check.ok
    assert "0 of 2 loops are running: nothing is announced" in check.detail
    assert health(db, "overdue_events").detail.startswith("3 due for more than 2 s")
    assert "pid" not in health(db, "overdue_events").detail, "no process holds a lock"
    db.execute("update after_hours.emitter set heartbeat_at = clock_timestamp() - interval '66 seconds'")
    db.execute("set role after_hours_relay")
    db.execute("select after_hours.relay_rescue()")
    db.execute("reset role")
    latenesses(db, 3)


def test_a_second_loop_by_hand_does_no_harm(db: Connection, other: Callable[..., Connection]) -> None:
    hand = other("after_hours_jobs")
    due_in(db, 2, count=40)
    with ThreadPoolExecutor() as threads:
        running = threads.submit(hand.execute, "call after_hours.announce_loop('59.9 s')")  # a minute at least
        assert len(latenesses(db, 40)) == 40
        hand.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            running.result()
    # Ctrl-C freed everything: the lock is there to be had
    assert db.execute("select * from after_hours.announce_due()").fetchone() is not None


def test_overdue_after_an_outage_goes_out_at_once(db: Connection) -> None:
    db.execute("select after_hours.pause_job('announce', clock_timestamp() + interval '1 minute', 'outage')")
    check = health(db, "announcing")
    assert not check.ok
    assert check.next_command == "select after_hours.resume_job('announce');"
    due_in(db, -5, count=20_000)
    db.execute("select after_hours.resume_job('announce')")
    rows = 0
    while rows < 20_000:  # a pause ends the loops: until the next minute it is hands that announce
        done = db.execute("select expired from after_hours.announce_due()").fetchone()
        assert done is not None
        rows = db.execute("select count(*) as n from after_hours.events").fetchone().n  # type: ignore[union-attr]
    assert rows == 20_000


def test_queue_nearly_full_events_without_notify(db: Connection, other: Callable[..., Connection]) -> None:
    """A mock: filling half of the real queue takes 8 GB of notifications behind a stuck listener."""
    original = "pg_catalog.pg_notification_queue_usage()"
    db.execute("select after_hours.pause_job('announce', clock_timestamp() + interval '10 seconds', 'test')")
    time.sleep(1.2)
    db.execute("set allow_system_table_mods = on")
    db.execute(f"alter function {original} rename to real_queue_usage")
    db.execute(f"create function {original} returns double precision language sql as 'select 0.6::double precision'")
    listener = other()
    try:
        listener.execute("listen after_hours_events")
        due_in(db, -1, count=2)
        db.execute("select after_hours.announce_due()")
        assert len(latenesses(db, 2)) == 2
        assert list(listener.notifies(timeout=0.5)) == []
        check = health(db, "notify_queue")
        assert not check.ok
        assert "events are written without NOTIFY" in check.detail
    finally:
        db.execute(f"drop function {original}")
        db.execute("alter function pg_catalog.real_queue_usage() rename to pg_notification_queue_usage")
        db.execute("select after_hours.resume_job('announce')")


def test_job_deactivated_is_seen_and_put_back(db: Connection) -> None:
    db.execute("update cron.job set active = false where jobname like 'after_hours_announce_spare@%'")
    check = health(db, "jobs")
    assert not check.ok
    assert "announce_spare" in check.detail
    db.execute(check.next_command)
    assert health(db, "jobs").ok


def test_role_broken_is_seen(db: Connection) -> None:
    db.execute("alter role after_hours_jobs nologin")
    try:
        row = db.execute("select * from after_hours.doctor() where subject = 'job role'").fetchone()
        assert row is not None
        assert not row.ok
        assert row.advice.startswith("alter role after_hours_jobs login")
    finally:
        db.execute("alter role after_hours_jobs login")


def test_launcher_terminated_is_seen(scheduled: Instance) -> None:
    """Last: pg_cron 1.4 does not come back before a restart."""
    with scheduled.connect() as db:
        db.execute("select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'pg_cron launcher'")
        time.sleep(1)
        check = health(db, "scheduler")
        version = db.execute("select extversion as v from pg_extension where extname = 'pg_cron'").fetchone()
        assert version is not None
        if version.v.startswith("1.4"):
            assert not check.ok
            assert "restart PostgreSQL" in check.next_command
    restart(scheduled)
    with scheduled.connect() as db:
        assert health(db, "scheduler").ok
