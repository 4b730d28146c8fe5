"""P6, P7 beside others: table locks and DDL during a run make batches wait; they neither fail the run nor take more."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.helpers import poll_until
from tests.sql.purge_helpers import make_matches, purge, value

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection

USED = [
    "public.after_hours_matches",
    "public.after_hours_messages",
    *(
        f"after_hours.{name}"
        for name in (
            "settings", "pauses", "holds", "evidence_chain", "purged_matches", "purge_batches", "purge_runs", "purge_failures",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("table", USED)
def test_a_table_lock_during_a_run_makes_it_wait_and_does_not_fail_it(
    db: Connection, connect: Callable[..., Connection], table: str
) -> None:
    make_matches(db, 1000)
    db.execute("update after_hours.settings set purge_batch_max = 10")
    dba, neighbour = connect("after_hours_jobs"), connect(autocommit=False)
    with ThreadPoolExecutor() as threads:
        run = threads.submit(dba.execute, "call after_hours.purge()")
        poll_until(lambda: db.execute("select from public.after_hours_matches offset 990").fetchall() == [])
        neighbour.execute(f"lock table {table} in access exclusive mode".encode())
        left = value(neighbour, "select count(*) from public.after_hours_matches")
        assert left > 0, "the run is under way"
        time.sleep(1)
        neighbour.rollback()
        run.result()
    assert value(db, "select count(*) from public.after_hours_matches") == 0
    (row,) = db.execute("select status, matches from after_hours.purge_history where run_id is not null").fetchall()
    assert (row.status, row.matches) == ("succeeded", 1000)
    assert value(db, "select bool_and(ok) from after_hours.verify_evidence()")


def test_a_run_keeps_its_lease_while_it_waits(db: Connection, connect: Callable[..., Connection]) -> None:
    make_matches(db, 20)
    neighbour = connect(autocommit=False)
    neighbour.execute("lock table after_hours.evidence_chain in access exclusive mode")
    with ThreadPoolExecutor() as threads:
        run = threads.submit(purge, connect("after_hours_jobs"), "p_max_seconds => 4")
        lease = "select max(lease_until) as at from after_hours.purge_runs where status = 'running'"
        first = poll_until(lambda: value(db, lease))
        poll_until(lambda: value(db, lease) > first)
        neighbour.rollback()
        assert run.result().status == "succeeded"


@pytest.mark.parametrize("table", ["public.after_hours_matches", "after_hours.settings", "after_hours.purge_runs"])
def test_a_table_lock_at_the_start_makes_the_run_wait(
    db: Connection, connect: Callable[..., Connection], table: str
) -> None:
    make_matches(db, 20)
    neighbour, jobs = connect(autocommit=False), connect("after_hours_jobs")
    neighbour.execute(f"lock table {table} in access exclusive mode".encode())
    with ThreadPoolExecutor() as threads:
        run = threads.submit(jobs.execute, "call after_hours.purge()")
        time.sleep(1)
        assert not run.done()
        neighbour.rollback()
        run.result()
    assert value(db, "select count(*) from public.after_hours_matches") == 0


def test_a_run_that_can_not_be_opened_in_its_time_names_the_holder(
    db: Connection, connect: Callable[..., Connection]
) -> None:
    neighbour, jobs = connect(autocommit=False), connect("after_hours_jobs")
    neighbour.execute("lock table public.after_hours_matches in access exclusive mode")
    with pytest.raises(psycopg.errors.LockNotAvailable) as caught:
        jobs.execute("call after_hours.purge(p_max_seconds => 1)")
    assert f"ACCESS EXCLUSIVE on public.after_hours_matches by pid {neighbour.info.backend_pid}" in str(caught.value)


def test_a_run_that_is_stuck_says_in_history_and_health_whom_it_waits_for(
    db: Connection, connect: Callable[..., Connection]
) -> None:
    # A hold that is not committed stops the whole purge: any match may be its own.
    make_matches(db, 20)
    moderator, jobs = connect(autocommit=False), connect("after_hours_jobs")
    held = value(db, "select id from public.after_hours_matches limit 1")
    pid = moderator.info.backend_pid
    moderator.execute("select after_hours.place_hold(%s, 'report', 'a ticket')", (held,))
    detail = "select detail from after_hours.purge_history where status = 'running'"
    health = "select detail from after_hours.health where check_name = 'purge' and not ok"
    explained = "select value from after_hours.explain_match(%s) where item = 'verdict'"
    assert f"overdue, but locked: ROW EXCLUSIVE on after_hours.holds by pid {pid}" in value(db, explained, held)
    with ThreadPoolExecutor() as threads:
        run = threads.submit(jobs.execute, "call after_hours.purge()")
        assert f"waits for ROW EXCLUSIVE on after_hours.holds by pid {pid}" in poll_until(lambda: value(db, detail))
        assert f"the run under way waits for ROW EXCLUSIVE on after_hours.holds by pid {pid}" in value(db, health)
        moderator.commit()
        run.result()
    assert value(db, "select array_agg(id) from public.after_hours_matches") == [held]
    (row,) = db.execute("select * from after_hours.purge_history where run_id is not null").fetchall()
    assert (row.status, row.detail) == ("succeeded", None)


def test_a_locked_match_is_explained(db: Connection, connect: Callable[..., Connection]) -> None:
    make_matches(db, 1)
    match = value(db, "select id from public.after_hours_matches")
    writer = connect(autocommit=False)
    writer.execute("update public.after_hours_matches set expires_at = expires_at")
    verdict = value(db, "select value from after_hours.explain_match(%s) where item = 'verdict'", match)
    assert f"overdue, but locked: a row by pid {writer.info.backend_pid}" in verdict
