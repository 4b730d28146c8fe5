"""P6, P7 beside others: table locks and DDL during a run make batches wait; they neither fail the run nor take more."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

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
