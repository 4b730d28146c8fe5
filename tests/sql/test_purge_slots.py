"""A year of nights through real runs: history is moved back a day at a time, so that each night is a night to the purge."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from tests.sql.purge_helpers import DUE, ids, make_match, make_matches, purge, value

if TYPE_CHECKING:
    from tests.conftest import Connection

# every instant that the purge, its ledger, its brake and its holds go by
PAST = (
    ("after_hours.purge_runs", ("slot", "started_at", "lease_until", "finished_at", "cutoff")),
    ("after_hours.brake_releases", ("released_at",)),
    ("after_hours.settings_log", ("changed_at",)),
    ("after_hours.holds", ("placed_at", "keep_until")),
    ("public.after_hours_matches", ("expires_at",)),
)


def pass_days(db: Connection, days: float) -> None:
    """Let days go by: everything that was is so much longer ago."""
    # there and back, so that no slot meets another one on its way
    for step in (days + 200000, -200000):
        for table, columns in PAST:
            moved = ", ".join(f"{column} = {column} - {step} * interval '24 hours'" for column in columns)
            db.execute(f"update {table} set {moved}")


def night(db: Connection, overdue: int, days: float = 1) -> Any:
    """Days pass, in which so many matches became overdue; then 03:00 comes. The run."""
    pass_days(db, days)
    make_matches(db, overdue, days=30 + 0.9 * days)
    due = ids(db, DUE)
    assert len(due) >= overdue
    run = purge(db, "'schedule'")
    if run.status == "succeeded":
        # P7: every overdue match goes with the next run, and nothing else does
        assert run.matches == len(due)
        assert ids(db, DUE) == set()
    return run


@pytest.fixture
def small(db: Connection) -> Connection:
    """Floors so low that nights of a hundred matches count as a large database."""
    db.execute("update after_hours.settings set brake_floor_matches = 20, brake_floor_messages = 2000")
    return db


@pytest.mark.timeout(300)
def test_a_year_of_nights(small: Connection) -> None:
    """It fires exactly where it should: the adopted backlog, the shortened retention, a night out of all proportion."""
    db = small
    braked: list[int] = []

    def expect(number: int, run: Any, reason: str | None) -> None:
        if reason is None:
            assert run.status == "succeeded", (number, run.detail)
        else:
            assert run.status == "braked", (number, run)
            assert run.detail.startswith(reason), (number, run.detail)
            braked.append(number)

    # night 1: a backlog came with the adopted tables
    expect(1, night(db, 200, days=20), "volume")
    db.execute("select after_hours.arm('adopted')")
    assert purge(db, "'catch_up'").matches == 200
    # quiet nights, some with nothing at all
    for number in range(2, 100):
        expect(number, night(db, number * 7 % 12), None)
    # growing by 3 % a night, from 8 to some 400
    for number in range(100, 230):
        expect(number, night(db, math.ceil(8 * 1.03 ** (number - 100))), None)
    usual = math.ceil(8 * 1.03**129)
    # ten days out, then all of it at once: not out of proportion
    expect(230, night(db, usual * 10, days=10), None)
    for number in range(231, 300):
        expect(number, night(db, usual // 8 + number % 5), None)
    # five times a usual night passes, more than that does not
    usual = usual // 8 + 2
    expect(300, night(db, usual * 5 - 10), None)
    expect(301, night(db, usual * 6), "volume")
    # left alone it stays braked, night after night, and nothing is lost
    expect(302, night(db, 3), "volume")
    assert value(db, "select count(*) from public.after_hours_matches") == usual * 6 + 3
    run = purge(db, "p_override_brake => 'a campaign in October'")
    assert run.matches == usual * 6 + 3
    expect(303, night(db, usual), None)
    # retention shortened: braked for a day whatever the volume; longer is no reason
    db.execute("update after_hours.settings set retention = '29 days'")
    assert purge(db).status == "braked"
    pass_days(db, 1.1)
    for number in range(304, 330):
        expect(number, night(db, usual), None)
    db.execute("update after_hours.settings set retention = '30 days'")
    for number in range(330, 366):
        expect(number, night(db, usual), None)
    assert braked == [1, 301, 302]
    assert value(
        db,
        "select count(distinct slot) = count(*) from after_hours.purge_runs where status = 'succeeded' and slot is not null",
    )
    assert value(db, "select bool_and(ok) from after_hours.verify_evidence()")


def test_a_tiny_database_never_brakes_on_volume(db: Connection) -> None:
    for overdue in (3, 0, 1, 900, 2, 1000):
        run = night(db, overdue)
        assert run.status == "succeeded", run.detail


def test_a_clock_set_to_2099_deletes_nothing_ends_no_hold_and_trims_no_evidence(db: Connection) -> None:
    """Even in a database too small for the brake on volume: 72 years go by between two runs."""
    for overdue in (5, 4, 6):
        night(db, overdue)
    kept = make_match(db, days=1)
    db.execute("select after_hours.place_hold(%s, 'report', 'test', now() + interval '10 days')", (make_match(db),))
    pass_days(db, 72.9 * 365)
    run = purge(db, "'schedule'")
    assert run.status == "braked"
    assert run.detail.startswith("clock: it is")
    assert kept in ids(db)
    assert value(db, "select after_hours.expire_holds()") == 0
    assert value(db, "select count(*) from after_hours.holds") == 1
    db.execute("update after_hours.purge_batches set committed_at = committed_at - interval '72 years'")
    assert value(db, "select after_hours.trim_evidence()") == 0
    # the clock is put right: the nights go on as if nothing had been
    pass_days(db, -72.9 * 365)
    assert value(db, "select count(*) from after_hours.purge_runs where started_at > now()") == 1
    assert night(db, 5).status == "succeeded"
    assert kept in ids(db)


def test_a_run_left_open_by_a_wrong_clock_blocks_nobody(db: Connection) -> None:
    make_match(db)
    with db.transaction():
        db.execute("select after_hours.open_purge_run('manual', null, null)")
    db.execute(
        "update after_hours.purge_runs set backend_pid = (select pid from pg_stat_activity where pid <> pg_backend_pid() limit 1), "
        "started_at = started_at + interval '72 years', lease_until = lease_until + interval '72 years'"
    )
    assert purge(db).status == "succeeded"


def test_missed_nights_are_shown_as_missed(db: Connection) -> None:
    night(db, 2)
    pass_days(db, 4)
    purge(db, "'catch_up'")
    rows = db.execute("select status from after_hours.purge_history limit 6").fetchall()
    assert [row.status for row in rows[:5]] == ["succeeded", "missed", "missed", "missed", "succeeded"]
