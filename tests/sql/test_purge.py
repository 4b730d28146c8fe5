"""Retention by the book: what goes and what stays, holds, runs and slots, the brake, what a DBA sees before and after."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.purge_helpers import DUE, ids, make_match, make_matches, messages_of, notices, purge, value

Connect = Callable[..., Connection]


# --- what goes and what stays -------------------------------------------------------------------------------------


def test_p6_p7_takes_exactly_what_the_rule_says(db: Connection, connect: Connect, login: Connect) -> None:
    held, user = make_match(db), uuid4()
    saved = make_match(db, saved=True)
    of_held_user = make_match(db, users=(uuid4(), user))
    young = make_match(db, days=29.99)
    for days in (30.01, 31, 400):
        make_match(db, days=days)
    empty = make_match(db, messages=0)
    moderator = login("after_hours_moderator_login")
    moderator.execute("select after_hours.place_hold(%s, 'report', 'test')", (held,))
    moderator.execute("select after_hours.place_user_hold(%s, 'legal', 'test')", (user,))
    due = ids(db, DUE)
    assert len(due) == 4
    assert empty in due
    run = purge(connect("after_hours_jobs"), "'schedule'")
    assert (run.status, run.matches, run.messages, run.run_by) == ("succeeded", 4, 9, "after_hours_jobs")
    assert ids(db) == {held, saved, of_held_user, young}
    assert all(messages_of(db, match) == 3 for match in (held, saved, of_held_user, young))
    assert ids(db, "select match_id from after_hours.purged_matches") == due


def test_p7_retention_is_the_setting_and_nothing_goes_earlier(db: Connection) -> None:
    match = make_match(db, days=44)
    db.execute("update after_hours.settings set retention = '45 days'")
    assert purge(db).matches == 0
    db.execute("update after_hours.settings set retention = '30 days'")
    assert purge(db).status == "braked"
    assert match in ids(db)
    run = purge(db, "p_override_brake => 'test: shortened on purpose'")
    assert (run.status, run.matches, run.override_reason) == ("succeeded", 1, "test: shortened on purpose")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Auckland"])
def test_p7_cutoff_is_reckoned_in_utc(db: Connection, zone: str) -> None:
    db.execute("select set_config('TimeZone', %s, false)", (zone,))
    assert value(db, "select abs(extract(epoch from now() - after_hours.purge_cutoff()) - 30 * 86400) < 5")
    make_match(db, days=30.02)
    make_match(db, days=29.98)
    assert purge(db).matches == 1


def test_p7_the_purge_takes_no_clock(db: Connection) -> None:
    """No routine of the purge has an argument that is an instant."""
    arguments = db.execute(
        "select p.proname from pg_proc p where p.pronamespace = 'after_hours'::regnamespace and p.proname in "
        "('purge', 'purge_batch', 'open_purge_run', 'purge_cutoff', 'expire_holds', 'trim_evidence', 'brake') "
        "and 'timestamptz'::regtype = any(p.proargtypes)"
    ).fetchall()
    assert arguments == []


def test_one_match_by_the_same_rules(db: Connection) -> None:
    wanted, other, young = make_match(db), make_match(db), make_match(db, days=2)
    saved = make_match(db, saved=True)
    run = purge(db, f"p_match_id => '{wanted}'")
    assert (run.status, run.matches, run.match_id, run.slot) == ("succeeded", 1, wanted, None)
    for match in (young, saved):
        assert purge(db, f"p_match_id => '{match}'").matches == 0
    assert ids(db) == {other, young, saved}
    with pytest.raises(psycopg.Error, match="was purged at") as caught:
        purge(db, f"p_match_id => '{wanted}'")
    assert caught.value.sqlstate == "AH004"
    with pytest.raises(psycopg.Error) as caught:
        purge(db, f"p_match_id => '{uuid4()}'")
    assert caught.value.sqlstate == "AH003"


# --- holds --------------------------------------------------------------------------------------------------------


def test_holds_say_who_and_why_and_are_remembered(db: Connection, login: Connect) -> None:
    match = make_match(db)
    moderator = login("after_hours_moderator_login")
    first = moderator.execute("select * from after_hours.place_hold(%s, 'report', 'ticket 1')", (match,)).fetchone()
    second = moderator.execute("select * from after_hours.place_hold(%s, 'legal', 'case 2')", (match,)).fetchone()
    assert first is not None
    assert second is not None
    assert first.placed_by == "after_hours_moderator_login"
    moderator.execute("select after_hours.release_hold(%s, 'dismissed')", (first.id,))
    assert purge(db).matches == 0  # the other one counts still
    moderator.execute("select after_hours.release_hold(%s, 'closed')", (second.id,))
    with pytest.raises(psycopg.Error, match=r"was released at .* by after_hours_moderator_login: closed") as caught:
        moderator.execute("select after_hours.release_hold(%s, 'again')", (second.id,))
    assert caught.value.sqlstate == "AH006"
    assert purge(db).matches == 1
    log = db.execute("select reason, released_by, release_reason from after_hours.hold_log order by id").fetchall()
    assert [tuple(row) for row in log] == [
        ("ticket 1", "after_hours_moderator_login", "dismissed"),
        ("case 2", "after_hours_moderator_login", "closed"),
    ]
    with pytest.raises(psycopg.Error) as caught:
        moderator.execute("select after_hours.place_hold(%s, 'report', 'too late')", (match,))
    assert caught.value.sqlstate == "AH004"


def test_user_hold_covers_matches_to_come(db: Connection) -> None:
    user = uuid4()
    hold = value(db, "select id from after_hours.place_user_hold(%s, 'appeal', 'test')", user)
    matches = {make_match(db, users=(user, uuid4())), make_match(db, users=(uuid4(), user))}
    assert purge(db).matches == 0
    assert ids(db) == matches
    db.execute("select after_hours.release_hold(%s, 'test')", (hold,))
    assert purge(db).matches == 2


def test_keep_until_lapses_by_itself(db: Connection) -> None:
    match, other = make_match(db), make_match(db)
    db.execute("select after_hours.place_hold(%s, 'report', 'test', clock_timestamp() + interval '50 ms')", (match,))
    db.execute("select after_hours.place_hold(%s, 'report', 'test', now() + interval '1 hour')", (other,))
    time.sleep(0.06)
    assert purge(db).matches == 1  # the run lapses holds first
    assert ids(db) == {other}
    assert value(db, "select release_reason from after_hours.hold_log") == "keep_until has passed"
    assert value(db, "select after_hours.expire_holds()") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("'whim', 'x', null", "not a kind"),
        ("'report', ' ', null", "needs a reason"),
        ("'report', 'x', now()", "has passed already"),
        (None, "there is no match"),
    ],
)
def test_a_hold_is_refused_with_words(db: Connection, arguments: str | None, said: str) -> None:
    match = make_match(db)
    call = f"'{match}', {arguments}" if arguments else f"'{uuid4()}', 'report', 'x'"
    with pytest.raises(psycopg.Error, match=said) as caught:
        db.execute(f"select after_hours.place_hold({call})")
    assert caught.value.sqlstate in {"AH003", "AH007"}
    assert caught.value.diag.message_hint


def test_stale_holds_are_reported(db: Connection) -> None:
    match = make_match(db)
    db.execute("select after_hours.place_hold(%s, 'report', 'old')", (match,))
    db.execute("select after_hours.place_hold(%s, 'report', 'new')", (match,))
    db.execute("update after_hours.holds set placed_at = now() - interval '100 days' where reason = 'old'")
    rows = db.execute("select reason, why from after_hours.stale_holds").fetchall()
    assert [tuple(row) for row in rows] == [("old", "no end, older than 90 days")]


def test_hidden_at_once_and_kept_for_moderators(db: Connection, connect: Connect, login: Connect) -> None:
    expired, running, saved = make_match(db, 0.1), make_match(db, -1), make_match(db, 40, saved=True)
    seen = "select distinct match_id from after_hours.{}"
    assert ids(connect("after_hours_app"), seen.format("visible_messages")) == {running, saved}
    moderator = login("after_hours_moderator_login")
    assert ids(moderator, seen.format("retained_messages")) == {expired}
    row = moderator.execute(
        "select purge_after - expired_at as kept, is_held from after_hours.retained_messages"
    ).fetchone()
    assert row is not None
    assert (row.kept.days, row.is_held) == (30, False)


def test_retained_messages_of_one_match_use_the_index(db: Connection) -> None:
    make_matches(db, 2000, messages=2)
    db.execute("analyze public.after_hours_messages, public.after_hours_matches")
    plan = "\n".join(
        row[0]
        for row in db.execute(
            "explain select * from after_hours.retained_messages where match_id = '00000000-0000-4000-8000-000000000000'"
        ).fetchall()
    )
    assert "Index Cond: (match_id = '00000000" in plan
    assert "Seq Scan on after_hours_m" not in plan


# --- runs ---------------------------------------------------------------------------------------------------------


def test_a_slot_succeeds_once(db: Connection, connect: Connect) -> None:
    jobs = connect("after_hours_jobs")
    said = notices(jobs)
    make_match(db)
    run = purge(jobs, "'schedule'")
    assert (run.status, run.trigger) == ("succeeded", "schedule")
    assert value(db, "select extract(hour from slot at time zone 'UTC') = 3 from after_hours.purge_runs")
    assert value(db, "select slot <= started_at and slot > started_at - interval '1 day' from after_hours.purge_runs")
    make_match(db)
    for trigger in ("schedule", "catch_up"):
        assert purge(jobs, f"'{trigger}'").run_id == run.run_id
    assert "has succeeded already" in said[-1]
    assert value(db, "select count(*) from public.after_hours_matches") == 1
    assert purge(db).slot is None  # by hand one may always


def test_p7_a_missed_slot_is_made_up_for_and_says_so(db: Connection, connect: Connect) -> None:
    make_match(db)
    assert value(db, "select status from after_hours.purge_history limit 1") == "missed"
    run = purge(connect("after_hours_jobs"), "'catch_up'")
    assert (run.status, run.trigger, run.matches) == ("succeeded", "catch_up", 1)
    assert "was missed" in run.detail
    assert (
        value(db, "select count(*) from after_hours.purge_history where status = 'missed' and slot = %s", run.slot) == 0
    )


def test_the_ledger_begins_after_the_installation(db: Connection) -> None:
    db.execute("update after_hours.settings set announce_since = now()")
    make_match(db)
    assert purge(db, "'catch_up'") is None
    assert value(db, "select count(*) from after_hours.purge_history") == 0
    run = purge(db, "'schedule'")
    assert (run.slot, run.status) == (None, "succeeded")


def test_a_manual_run_closes_the_open_slot_but_a_single_match_never(db: Connection) -> None:
    match = make_match(db)
    assert purge(db, f"p_match_id => '{match}'").slot is None
    assert purge(db).slot is not None
    runs = value(db, "select count(*) from after_hours.purge_runs")
    purge(db, "'catch_up'")
    assert value(db, "select count(*) from after_hours.purge_runs") == runs


def test_time_budget_then_catch_up(db: Connection) -> None:
    db.execute("update after_hours.settings set purge_batch_max = 5")
    make_matches(db, 300)
    run = purge(db, "'schedule', 0")
    assert run.status == "partial"
    assert 0 < run.matches < 300
    assert "stopped after" in run.detail
    again = purge(db, "'catch_up'")
    assert (again.status, again.slot, again.matches) == ("succeeded", run.slot, 300 - run.matches)
    assert value(db, "select passes from after_hours.purge_runs where id = %s", again.run_id) == 1


def test_many_matches_of_one_expiry_go_in_batches_of_the_same_size(db: Connection) -> None:
    """Keys are (expires_at, id): an instant that everything shares must not make each batch look at everything."""
    make_matches(db, 3000)
    db.execute("update public.after_hours_matches set expires_at = '2026-01-01Z'")
    db.execute("update after_hours.settings set brake_floor_matches = 10000, purge_batch_max = 100")
    run = purge(db)
    assert (run.status, run.matches) == ("succeeded", 3000)
    assert run.batches < 45
    tail = db.execute("select tail_expires_at, tail_match_id, cursor_match_id from after_hours.purge_runs").fetchone()
    assert tail
    assert str(tail.tail_expires_at.date()) == "2026-01-01"
    assert tail.tail_match_id <= tail.cursor_match_id


def test_a_second_caller_is_told_who(db: Connection, connect: Connect, login: Connect) -> None:
    make_matches(db, 400)
    db.execute("update after_hours.settings set purge_batch_max = 1")
    first, second = connect("after_hours_jobs"), login("after_hours_dba_login")
    said = notices(second)
    thread = threading.Thread(target=first.execute, args=("CALL after_hours.purge('schedule')",))
    thread.start()
    try:
        while not value(db, "select count(*) from after_hours.purge_runs where batches > 3"):
            time.sleep(0.01)
        second.execute("CALL after_hours.purge()")
    finally:
        thread.join()
    assert any("purge run 1 (schedule) by after_hours_jobs has been running since" in line for line in said), said
    assert value(db, "select array_agg(status) from after_hours.purge_runs") == ["succeeded"]


def test_ctrl_c_between_batches_leaves_a_run_that_goes_on(db: Connection, login: Connect) -> None:
    make_matches(db, 400)
    db.execute("update after_hours.settings set purge_batch_max = 1")
    hand = login("after_hours_dba_login")
    errors: list[BaseException] = []

    def call() -> None:
        try:
            hand.execute("CALL after_hours.purge()")
        except psycopg.errors.QueryCanceled as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    while not value(db, "select count(*) from after_hours.purge_runs where batches > 3"):
        time.sleep(0.01)
    hand.cancel_safe()
    thread.join()
    assert errors
    assert (
        value(db, "select count(*) from pg_locks where pid = %s and relation is not null", hand.info.backend_pid) == 0
    )
    run = db.execute("select status, matches from after_hours.purge_history limit 1").fetchone()
    assert run is not None
    assert run.status == "running"
    said = notices(hand)
    after = purge(hand)  # the same psql goes on at once
    assert "was abandoned" in said[0]
    assert (after.status, after.matches) == ("succeeded", 400 - run.matches)
    assert value(db, "select status from after_hours.purge_runs where id = 1") == "abandoned"
    assert value(db, "select bool_and(ok) from after_hours.verify_evidence()")


def test_a_run_without_a_backend_is_taken_over_at_once(db: Connection, login: Connect) -> None:
    other = login("after_hours_dba_login")
    other.execute("select after_hours.open_purge_run('manual', null, null)")
    said = notices(db)
    assert purge(db).status == "running"  # alive, its lease good
    assert "has been running since" in said[-1]
    db.execute("update after_hours.purge_runs set lease_until = now() - interval '1 second'")
    assert purge(db).status == "succeeded"
    with pytest.raises(psycopg.Error, match="is closed: abandoned") as caught:
        other.execute("select after_hours.purge_batch(1)")
    assert caught.value.sqlstate == "AH012"
    third = login("after_hours_dba_login")
    third.execute("select after_hours.open_purge_run('manual', null, null)")
    third.close()
    time.sleep(0.1)
    assert purge(db).status == "succeeded"


def test_nothing_is_gained_by_calling_a_batch_directly(db: Connection, login: Connect) -> None:
    make_match(db)
    dba, other = login("after_hours_dba_login"), login("after_hours_dba_login")
    with pytest.raises(psycopg.Error, match="there is no purge run 99"):
        dba.execute("select after_hours.purge_batch(99)")
    run = value(dba, "select (after_hours.open_purge_run('manual', null, null)).id")
    with pytest.raises(psycopg.Error, match="belongs to backend"):
        other.execute("select after_hours.purge_batch(%s)", (run,))
    dba.execute("begin isolation level repeatable read")
    with pytest.raises(psycopg.Error, match="READ COMMITTED") as caught:
        dba.execute("select after_hours.purge_batch(%s)", (run,))
    dba.execute("rollback")
    assert caught.value.sqlstate == "AH013"
    with pytest.raises(psycopg.Error, match="can't close a run"):
        dba.execute("select after_hours.close_purge_run(%s, 'succeeded', null)", (run,))
    db.execute("select after_hours.pause_job('purge', now() + interval '1 hour', 'test')")
    assert value(dba, "select outcome from after_hours.purge_batch(%s)", run) == "paused"
    assert value(db, "select count(*) from public.after_hours_matches") == 1


def test_clear_inside_a_transaction(db: Connection) -> None:
    with pytest.raises(psycopg.Error, match="can't run inside a transaction block") as caught, db.transaction():
        db.execute("CALL after_hours.purge()")
    assert caught.value.sqlstate == "AH010"
    assert "COMMIT" in (caught.value.diag.message_hint or "")
    with pytest.raises(psycopg.Error, match="can't run inside a transaction block"):
        db.execute("select 1; CALL after_hours.purge()")
    assert value(db, "select count(*) from after_hours.purge_runs") == 0


def test_a_session_at_repeatable_read_and_read_only_can_purge(db: Connection) -> None:
    make_match(db)
    db.execute("set default_transaction_isolation = 'repeatable read'")
    db.execute("set default_transaction_read_only = on")
    try:
        assert purge(db).matches == 1
    finally:
        db.execute("reset all")


def test_a_pause_has_an_end(db: Connection) -> None:
    make_match(db)
    db.execute("select after_hours.pause_job('purge', clock_timestamp() + interval '0.3 s', 'restoring')")
    said = notices(db)
    assert purge(db) is None
    assert "is paused until" in said[-1]
    run = purge(db, "'schedule'")
    assert run.status == "paused"
    assert purge(db, "'catch_up'").run_id == run.run_id  # recorded once
    time.sleep(0.35)
    after = purge(db, "'catch_up'")
    assert (after.status, after.slot, after.matches) == ("succeeded", run.slot, 1)


def test_a_pause_stops_a_run_at_its_next_batch(db: Connection, connect: Connect) -> None:
    make_matches(db, 400)
    db.execute("update after_hours.settings set purge_batch_max = 1")
    thread = threading.Thread(target=connect("after_hours_jobs").execute, args=("CALL after_hours.purge('schedule')",))
    thread.start()
    while not value(db, "select count(*) from after_hours.purge_runs where batches > 3"):
        time.sleep(0.01)
    db.execute("select after_hours.pause_job('purge', now() + interval '1 hour', 'test')")
    thread.join()
    run = db.execute("select * from after_hours.purge_runs").fetchone()
    assert run is not None
    assert run.status == "paused"
    assert run.matches < 400
    db.execute("select after_hours.resume_job('purge')")
    assert purge(db, "'catch_up'").matches == 400 - run.matches


def test_what_is_locked_is_left_and_the_run_says_so(db: Connection, connect: Connect) -> None:
    locked, free = make_match(db), make_match(db)
    app = connect("after_hours_app")
    with app.transaction():
        app.execute("select from public.after_hours_matches where id = %s for update", (locked,))
        run = purge(db, "'schedule'")
        assert (run.status, run.matches) == ("partial", 1)
        assert "locked by other transactions" in run.detail
        assert value(db, "select reason from after_hours.not_purged where match_id = %s", locked) == "left"
    assert free not in ids(db)
    assert purge(db, "'catch_up'").status == "succeeded"


def test_a_locked_message_keeps_only_its_match(db: Connection, connect: Connect) -> None:
    """A session that touched a message first, and would deadlock: it wins, the others go."""
    matches = [make_match(db) for _ in range(20)]
    app = connect()
    with app.transaction():
        app.execute("update public.after_hours_messages set body = 'edited' where match_id = %s", (matches[7],))
        run = purge(db)
        assert run.status == "partial"
        assert ids(db) == {matches[7]}
        assert value(db, "select count(*) from after_hours.purge_failures") == 0
        app.execute(
            "update public.after_hours_matches set converted_to_match_id = %s where id = %s", (uuid4(), matches[7])
        )
    assert purge(db).status == "succeeded"
    assert messages_of(db, matches[7]) == 3


def test_bad_arguments(db: Connection) -> None:
    with pytest.raises(psycopg.Error, match="not a trigger") as caught:
        purge(db, "'cron'")
    assert caught.value.sqlstate == "AH011"
    make_match(db)
    for seconds in (-1, -0.5):
        with pytest.raises(psycopg.Error, match="can't take") as caught:
            purge(db, f"p_max_seconds => {seconds}")
        assert caught.value.sqlstate == "AH018"
    assert value(db, "select count(*) from after_hours.purge_runs") == 0


# --- the brake ----------------------------------------------------------------------------------------------------


def test_the_brake_stops_before_deleting_and_is_released_by_name(db: Connection, login: Connect) -> None:
    make_matches(db, 1001)
    said = notices(db)
    run = purge(db, "'schedule'")
    assert (run.status, run.matches) == ("braked", 0)
    assert "volume: 1001 matches (limit 1000)" in run.detail
    assert "the brake is on" in said[-1]
    assert value(db, "select count(*) from public.after_hours_matches") == 1001
    assert not value(db, "select ok from after_hours.health where check_name = 'brake'")
    assert purge(db, "'catch_up'").run_id == run.run_id  # closed until released, not asked every hour
    with pytest.raises(psycopg.Error) as caught:
        db.execute("select after_hours.arm('')")
    assert caught.value.sqlstate == "AH017"
    login("after_hours_dba_login").execute("select after_hours.arm('adopted backlog')")
    assert value(db, "select released_by || ': ' || reason from after_hours.brake_releases") == (
        "after_hours_dba_login: adopted backlog"
    )
    after = purge(db, "'catch_up'")
    assert (after.status, after.slot, after.matches) == ("succeeded", run.slot, 1001)
    assert "brake released" in after.detail
    make_matches(db, 5006)  # a release is good until one run has succeeded
    assert purge(db).status == "braked"


def test_a_release_does_not_cover_a_later_shortening(db: Connection) -> None:
    make_matches(db, 1001)
    make_matches(db, 2, days=20)
    db.execute("select after_hours.arm('adopted backlog')")
    db.execute("update after_hours.settings set retention = '10 days'")
    run = purge(db)
    assert (run.status, run.matches) == ("braked", 0)
    assert "retention: shortened from 30 days to 10 days" in run.detail
    db.execute("select after_hours.arm('ten days, as agreed')")
    assert purge(db).matches == 1003


def test_a_release_does_not_cover_a_shortening_it_could_not_see(db: Connection, login: Connect) -> None:
    make_matches(db, 3, days=20)
    other = login("after_hours_dba_login")
    other.execute("begin")
    other.execute("update after_hours.settings set retention = '10 days'")
    db.execute("select after_hours.arm('all is well')")
    other.execute("commit")
    run = purge(db)
    assert (run.status, run.matches) == ("braked", 0)
    assert "retention: shortened" in run.detail


def test_an_override_is_recorded_and_a_single_match_releases_nothing(db: Connection) -> None:
    make_matches(db, 1001)
    assert purge(db, f"p_match_id => '{make_match(db)}'").matches == 1, "one match by name is no volume"
    assert purge(db, f"p_match_id => '{make_match(db)}', p_override_brake => 'asked for'").matches == 1
    assert value(db, "select count(*) from after_hours.brake_releases") == 0
    assert purge(db).status == "braked"
    run = purge(db, "p_override_brake => 'checked'")
    assert (run.status, run.matches, run.override_reason) == ("succeeded", 1001, "checked")
    assert value(db, "select reason from after_hours.brake_releases") == "checked"


def test_messages_brake_as_well(db: Connection) -> None:
    db.execute("update after_hours.settings set brake_floor_messages = 500")
    make_matches(db, 50, messages=11)
    assert "more than 500 messages" in purge(db).detail


def test_the_brake_holds_within_a_run(db: Connection, login: Connect) -> None:
    """What is un-saved while a run is on is not covered by what the brake weighed at its start."""
    db.execute("update after_hours.settings set brake_floor_matches = 30, purge_batch_max = 10")
    make_matches(db, 30)
    dba = login("after_hours_dba_login")
    run = value(dba, "select (after_hours.open_purge_run('manual', null, null)).id")
    make_matches(db, 300)
    outcomes = [value(dba, "select outcome from after_hours.purge_batch(%s)", run) for _ in range(4)]
    assert outcomes == ["more", "more", "more", "braked"]
    assert value(db, "select count(*) from public.after_hours_matches") == 300


def test_a_run_made_while_the_clock_was_ahead_closes_no_slot(db: Connection) -> None:
    """CASES 31: what was overdue stayed a day longer, and health was green."""
    db.execute("update after_hours.settings set announce_since = now() - interval '3 days'")
    assert purge(db, "'schedule'").status == "succeeded"
    assert purge(db, "'schedule'").run_id == purge(db, "'catch_up'").run_id, "the slot is closed"
    db.execute("update after_hours.purge_runs set started_at = clock_timestamp() + interval '17 minutes'")
    make_match(db)
    run = purge(db, "'schedule'")
    assert (run.status, run.matches, run.slot is not None) == ("succeeded", 1, True)
    rows = db.execute("select detail from after_hours.purge_runs where slot is null").fetchall()
    assert [row.detail.startswith("the clock was ahead: slot ") for row in rows] == [True]


def test_a_copy_of_the_database_does_not_purge(db: Connection) -> None:
    make_match(db)
    purge(db)
    db.execute("update after_hours.purge_runs set system_identifier = 1")
    make_match(db)
    run = purge(db)
    assert run.status == "braked"
    assert run.detail.startswith("identity: this is database after_hours of cluster")
    assert purge(db, f"p_match_id => '{make_match(db)}'").status == "braked", "the other reasons hold for one as well"
    db.execute("select after_hours.arm('this is production now')")
    assert purge(db).status == "succeeded"
    assert purge(db).status == "succeeded"


# --- before and after ---------------------------------------------------------------------------------------------


def test_the_preview_counts_what_the_purge_takes(db: Connection) -> None:
    for days in (30.5, 31.5, 31.6):
        make_match(db, days)
    make_match(db, saved=True)
    held = make_match(db)
    db.execute("select after_hours.place_hold(%s, 'report', 'test')", (held,))
    make_match(db, 29.5)
    rows = db.execute("select * from after_hours.purge_preview()").fetchall()
    by_item = {row.item: row for row in rows}
    due = next(row for row in rows if row.section == "due")
    assert (due.matches, due.messages, due.is_estimate) == (3, 9, False)
    assert due.bytes > 9 * 60
    assert by_item["within the next 24 hours"].matches == 1
    assert by_item["saved"].matches == 1
    assert by_item["held"].matches == 1
    per_day = [row for row in rows if row.section == "day"]
    assert sum(row.matches for row in per_day) == 3
    assert sum(row.messages for row in per_day) == 9
    run = purge(db)
    assert (run.matches, run.messages) == (due.matches, due.messages)


def test_a_large_backlog_is_estimated_and_labelled(db: Connection) -> None:
    make_matches(db, 20500, messages=2)
    db.execute("analyze public.after_hours_messages, public.after_hours_matches")
    due = db.execute("select * from after_hours.purge_preview() where section = 'due'").fetchall()[0]
    assert due.matches == 20500
    assert due.is_estimate
    assert 0.9 * 41000 <= due.messages <= 1.1 * 41000


def test_explain_and_not_purged(db: Connection, login: Connect) -> None:
    held, saved, young, due = make_match(db), make_match(db, saved=True), make_match(db, 3), make_match(db)
    db.execute("select after_hours.place_hold(%s, 'legal', 'case 7')", (held,))
    dba = login("after_hours_dba_login")

    def verdict(match: UUID) -> str:
        return str(value(dba, "select value from after_hours.explain_match(%s) limit 1", match))

    assert verdict(held) == "stays: held"
    assert verdict(saved) == "stays: saved"
    assert verdict(young).startswith("stays until")
    assert verdict(due) == "overdue: the next run deletes it"
    purge(db)
    assert verdict(due) == "purged"
    rows = dba.execute("select * from after_hours.not_purged").fetchall()
    assert [(row.match_id, row.reason, row.by_whom) for row in rows] == [(held, "held", "postgres")]
    assert "legal: case 7" in rows[0].detail
    # un-saved: it should have gone with the last run
    db.execute("update public.after_hours_matches set converted_to_match_id = null where id = %s", (saved,))
    lines = dict(dba.execute("select item, value from after_hours.explain_match(%s)", (saved,)).fetchall())
    assert "has been un-saved" in lines["WARNING"]
    assert value(dba, "select matches from after_hours.purge_preview() where item = 'was not due'") == 1
    assert value(dba, "select reason from after_hours.not_purged where match_id = %s", saved) == "left"
    with pytest.raises(psycopg.Error) as caught:
        verdict(uuid4())
    assert caught.value.sqlstate == "AH003"


def test_backlog(db: Connection) -> None:
    for days in (30.5, 33.5, 33.6):
        make_match(db, days)
    held = make_match(db, 33.5)
    db.execute("select after_hours.place_hold(%s, 'report', 'test')", (held,))
    assert value(db, "select sum(matches) from after_hours.backlog") == 3
    assert value(db, "select sum(held) from after_hours.backlog") == 1
    assert value(db, "select max(overdue_by) > interval '3 days' from after_hours.backlog")


# --- evidence -----------------------------------------------------------------------------------------------------


@pytest.fixture
def chain(db: Connection) -> Connection:
    """Three runs of two batches each."""
    # a target that no batch misses, as the next one would be smaller
    db.execute("update after_hours.settings set purge_batch_max = 2, purge_batch_target = '5 seconds'")
    for _ in range(3):
        make_matches(db, 4)
        assert purge(db).batches == 2
    return db


def broken(db: Connection) -> list[tuple[int | None, int | None]]:
    return [
        (r.run_id, r.batch) for r in db.execute("select * from after_hours.verify_evidence() where not ok").fetchall()
    ]


def test_p8_the_chain_verifies(chain: Connection) -> None:
    rows = chain.execute("select * from after_hours.verify_evidence()").fetchall()
    assert [(row.run_id, row.batch, row.ok) for row in rows] == [
        (1, 1, True), (1, 2, True), (2, 1, True), (2, 2, True), (3, 1, True), (3, 2, True), (None, None, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tampering", "first"),
    [
        ("update after_hours.purged_matches set messages = 7 where seq = 3 and match_id = (select min(match_id::text)::uuid "
         "from after_hours.purged_matches where seq = 3)", (2, 1)),
        ("update after_hours.purged_matches set expired_at = expired_at - interval '1 microsecond' where seq = 3", (2, 1)),
        ("update after_hours.purged_matches set match_id = gen_random_uuid() where ctid = "
         "(select min(ctid) from after_hours.purged_matches where seq = 3)", (2, 1)),
        ("delete from after_hours.purged_matches where ctid = (select min(ctid) from after_hours.purged_matches where seq = 3)", (2, 1)),
        ("insert into after_hours.purged_matches values (gen_random_uuid(), 3, now(), 0)", (2, 1)),
        ("update after_hours.purge_batches set committed_at = committed_at - interval '1 hour' where seq = 3", (2, 1)),
        ("update after_hours.purge_batches set run_id = 1, batch = 3 where seq = 3", (1, 3)),
        ("delete from after_hours.purged_matches where seq = 3; delete from after_hours.purge_batches where seq = 3", (2, 2)),
        ("delete from after_hours.purged_matches where seq >= 5; delete from after_hours.purge_batches where seq >= 5", (None, None)),
        ("update after_hours.evidence_chain set head_hash = sha256('x')", (None, None)),
        ("insert into after_hours.purged_matches values (gen_random_uuid(), 99, now(), 0)", (None, None)),
        ("delete from after_hours.purge_batches where seq = 6", (None, None)),
    ],
)  # fmt: skip
def test_p8_a_tampered_row_is_named(chain: Connection, tampering: str, first: tuple[int | None, int | None]) -> None:
    chain.execute(tampering)
    assert broken(chain)[0] == first


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        ("update after_hours.purged_matches set messages = 7 where match_id = %s", "the tombstone of match {id} was changed"),
        ("update after_hours.purged_matches set expired_at = 'epoch' where match_id = %s", "the tombstone of match {id} was changed"),
        ("delete from after_hours.purged_matches where match_id = %s", "the tombstone no. 2 in the order of the ids was removed"),
        ("insert into after_hours.purged_matches values (overlay(%s placing '00000000' from 1)::uuid, 3, now(), 0)", "the tombstone of match 00000000{tail} was added"),
    ],
)  # fmt: skip
def test_p8_the_very_tombstone_is_named(chain: Connection, tampering: str, named: str) -> None:
    match = str(
        value(chain, "select match_id from after_hours.purged_matches where seq = 3 order by 1 offset 1 limit 1")
    )
    chain.execute(tampering, (match,))
    detail = value(chain, "select detail from after_hours.verify_evidence() where not ok limit 1")
    assert detail.endswith(named.format(id=match, tail=match[8:]))
    chain.execute("update after_hours.purge_batches set digests = ''")
    assert broken(chain)[0] == (2, 1), "without digests the batch is named all the same"


def test_p8_a_batch_forged_with_its_hash_breaks_the_next(chain: Connection) -> None:
    chain.execute("update after_hours.purged_matches set messages = 0 where seq = 3")
    chain.execute(
        "update after_hours.purge_batches b set messages = 0, hash = (select after_hours.evidence_hash(b.prev_hash, b.seq, b.run_id, "
        "b.batch, b.committed_at, array_agg(t.match_id), array_agg(t.expired_at), array_agg(t.messages)) "
        "from after_hours.purged_matches t where t.seq = b.seq) where seq = 3"
    )
    assert broken(chain)[0] == (2, 2)


def test_p8_receipt(db: Connection, login: Connect) -> None:
    match = make_match(db, messages=5)
    purge(db, "'schedule'")
    receipt = (
        login("after_hours_dba_login").execute("select * from after_hours.deletion_receipt(%s)", (match,)).fetchone()
    )
    assert receipt is not None
    assert (receipt.match_id, receipt.messages, receipt.trigger, receipt.is_verified) == (match, 5, "schedule", True)
    assert "was deleted with its 5 messages" in receipt.statement
    with pytest.raises(psycopg.Error, match="no purge of match") as caught:
        db.execute("select * from after_hours.deletion_receipt(%s)", (make_match(db, 1),))
    assert caught.value.sqlstate == "AH016"
    assert caught.value.diag.message_detail == "The match exists."


def test_p8_an_id_used_again_can_be_purged_again(db: Connection) -> None:
    match = make_match(db)
    purge(db)
    db.execute(
        "insert into public.after_hours_matches (id, user_a, user_b, created_at, expires_at)"
        " values (%s, %s, %s, now() - interval '90 days', now() - interval '31 days')",
        (match, uuid4(), uuid4()),
    )
    assert purge(db).matches == 1
    assert value(db, "select count(*) from after_hours.deletion_receipt(%s)", match) == 2
    assert broken(db) == []


def test_p8_tombstones_hold_no_content_and_no_participants(db: Connection) -> None:
    columns = ids(
        db,
        "select attname from pg_attribute where attrelid in ('after_hours.purged_matches'::regclass, "
        "'after_hours.purge_batches'::regclass) and attnum > 0",
    )
    assert columns == {
        "match_id", "seq", "expired_at", "messages", "run_id", "batch", "matches", "committed_at", "prev_hash", "hash", "digests",
    }  # fmt: skip


def backdate(db: Connection, batches: int) -> None:
    """Make the oldest batches two years old, with hashes as if they had been written then."""
    for seq in range(1, int(value(db, "select max(seq) from after_hours.purge_batches")) + 1):
        db.execute(
            "update after_hours.purge_batches b set committed_at = committed_at - case when seq <= %s then interval '2 years' "
            "else '0' end, prev_hash = coalesce((select p.hash from after_hours.purge_batches p where p.seq = b.seq - 1), prev_hash) "
            "where seq = %s",
            (batches, seq),
        )
        db.execute(
            "update after_hours.purge_batches b set hash = (select after_hours.evidence_hash(b.prev_hash, b.seq, b.run_id, b.batch, "
            "b.committed_at, array_agg(t.match_id), array_agg(t.expired_at), array_agg(t.messages)) "
            "from after_hours.purged_matches t where t.seq = b.seq) where seq = %s",
            (seq,),
        )
    db.execute(
        "update after_hours.evidence_chain set head_hash = (select hash from after_hours.purge_batches order by seq desc limit 1)"
    )
    db.execute(
        "update after_hours.purge_runs r set started_at = started_at - interval '2 years' where not exists "
        "(select from after_hours.purge_batches b where b.run_id = r.id and b.committed_at > now() - interval '1 year')"
    )


def test_p8_trimming_keeps_the_chain_verifiable(chain: Connection) -> None:
    backdate(chain, 3)
    assert broken(chain) == []
    assert value(chain, "select after_hours.trim_evidence()") == 4  # three batches, and the run that has none left
    assert value(chain, "select after_hours.trim_evidence()") == 0
    assert value(chain, "select anchor_seq from after_hours.evidence_chain") == 3
    assert value(chain, "select count(*) from after_hours.purged_matches") == 6
    assert ids(chain, "select id from after_hours.purge_runs") == {2, 3}
    assert broken(chain) == []
    chain.execute(
        "delete from after_hours.purged_matches where seq = 4; delete from after_hours.purge_batches where seq = 4"
    )
    assert broken(chain)[0] == (3, 1)


def test_p8_no_login_role_can_touch_evidence(db: Connection, login: Connect) -> None:
    roles = [row[0] for row in db.execute("select rolname from pg_roles where rolcanlogin and not rolsuper").fetchall()]
    assert {"after_hours_jobs", "after_hours_app", "after_hours_dba_login"} <= set(roles)
    tables = (
        "purged_matches",
        "purge_batches",
        "evidence_chain",
        "purge_runs",
        "hold_log",
        "brake_releases",
        "settings_log",
    )
    for role in roles:
        for table in tables:
            for privilege in ("insert", "update", "delete", "truncate", "trigger"):
                assert not value(db, "select has_table_privilege(%s, %s, %s)", role, f"after_hours.{table}", privilege), (
                    role, table, privilege,
                )  # fmt: skip
        assert not value(db, "select pg_has_role(%s, 'after_hours_owner', 'member')", role)
    dba = login("after_hours_dba_login")
    for table in tables:
        dba.execute(f"select * from after_hours.{table}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            dba.execute(f"delete from after_hours.{table}")


# --- from each seat -----------------------------------------------------------------------------------------------

HOLD = "select after_hours.place_hold('00000000-0000-4000-8000-000000000000', 'report', 'x')"
SEATS = {
    HOLD: {"moderator", "dba"},
    "select after_hours.place_user_hold('00000000-0000-4000-8000-000000000000', 'report', 'x')": {"moderator", "dba"},
    "select after_hours.release_hold(0, 'x')": {"moderator", "dba"},
    "select * from after_hours.retained_messages": {"moderator"},
    "select * from after_hours.holds": {"moderator", "dba"},
    "select * from after_hours.hold_log": {"moderator", "dba"},
    "select * from after_hours.stale_holds": {"moderator", "dba"},
    "CALL after_hours.purge()": {"dba", "jobs"},
    "select after_hours.purge_batch(0)": {"dba", "jobs"},
    "select * from after_hours.purge_preview()": {"dba"},
    "select * from after_hours.explain_match('00000000-0000-4000-8000-000000000000')": {"dba"},
    "select * from after_hours.not_purged": {"dba", "jobs"},
    "select * from after_hours.backlog": {"dba", "jobs"},
    "select * from after_hours.purge_history": {"dba", "jobs"},
    "select after_hours.arm('x')": {"dba"},
    "select * from after_hours.brake()": {"dba", "jobs"},
    "select after_hours.deletion_receipt('00000000-0000-4000-8000-000000000000')": {"dba"},
    "select * from after_hours.verify_evidence()": {"dba"},
    "select after_hours.expire_holds()": {"dba", "jobs"},
    "select after_hours.trim_evidence()": {"dba", "jobs"},
    "select * from after_hours.purgeable_matches": set(),
    "select after_hours.delete_matches('{}', '{}', now())": set(),
    "delete from public.after_hours_messages": set(),
    "delete from public.after_hours_matches": set(),
    "insert into after_hours.holds (user_id, kind, reason, placed_by) values (gen_random_uuid(), 'report', 'x', 'x')": set(),
}
LOGINS = {
    "app": "after_hours_app", "moderator": "after_hours_moderator_login", "dba": "after_hours_dba_login",
    "jobs": "after_hours_jobs", "relay": "after_hours_relay", "stranger": "after_hours_stranger",
}  # fmt: skip


@pytest.mark.parametrize("seat", LOGINS)
def test_each_seat_can_do_exactly_what_the_contract_says(db: Connection, login: Connect, seat: str) -> None:
    del db
    connection = login(LOGINS[seat])
    for call, allowed in SEATS.items():
        try:
            connection.execute(call)
            may = True
        except psycopg.errors.InsufficientPrivilege:
            may = False
        except psycopg.Error as error:  # allowed, and then refused with words for what it asked
            may = (error.sqlstate or "").startswith("AH")
        assert may == (seat in allowed), (seat, call)


@pytest.mark.parametrize(
    ("size", "picked", "busy", "matches", "elapsed", "expected"),
    [
        (100, 100, 0, 100, "0.025", 200),  # half of the target: twice as many, and never more than twice
        (100, 100, 0, 100, "0.001", 200),
        (100, 100, 0, 100, "0.100", 50),
        (100, 100, 0, 100, "9", 25),  # at least a quarter
        (1, 1, 0, 1, "9", 1),
        (100, 30, 0, 30, "0.001", 100),  # little to delete says nothing
        (100, 80, 3, 77, "0.001", 10),  # locked rows: small batches find out which
        (100, 3, 3, 0, "0.001", 1),
        (900, 900, 0, 900, "0.001", 1000),  # never above the maximum
    ],
)
def test_the_next_batch_size(
    db: Connection, size: int, picked: int, busy: int, matches: int, elapsed: str, expected: int
) -> None:
    found = value(
        db,
        "select batch_size from after_hours.next_batch_size(%s, 5000, %s, %s, %s, 0, %s::interval, '0.05', 1000)",
        size, picked, busy, matches, elapsed,
    )  # fmt: skip
    assert found == expected


@pytest.mark.parametrize(
    ("messages", "elapsed", "expected"),
    [(5000, "0.05", 7500), (1000, "0.05", 5000), (5000, "5", 500), (900000, "0.001", 1000000)],
)
def test_the_next_number_of_messages(db: Connection, messages: int, elapsed: str, expected: int) -> None:
    found = value(
        db,
        "select batch_messages from after_hours.next_batch_size(100, 5000, 100, 0, 100, %s, %s::interval, '0.05', 1000)",
        messages, elapsed,
    )  # fmt: skip
    assert found == expected
