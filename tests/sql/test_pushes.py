"""Which events are pushed, when, how often, and when not any more: push_claim() and push_result()."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection

WARNING, END = "after_hours:session_expiring", "after_hours:session_expired"


def add_target(db: Connection, name: str = "main", **values: Any) -> None:
    """A target that was there before all events of the test."""
    columns = {"url": "https://push.example/hook", "secret_name": "main", "added_at": "2000-01-01Z", **values}
    db.execute(
        f"insert into after_hours.push_targets (name, {', '.join(columns)}) values (%s{', %s' * len(columns)})",
        (name, *columns.values()),
    )


def announce(db: Connection, left: str = "100 seconds", age: str = "30 seconds") -> Any:
    """A session with its warning (or its end, if `left` is negative) announced `age` ago; returns the session's row."""
    session = db.execute(
        "insert into public.after_hours_sessions (user_id, started_at, expires_at) "
        "values (%s, clock_timestamp() - interval '1 hour', clock_timestamp() + %s::interval) returning *",
        (uuid.uuid4(), left),
    ).fetchone()
    assert session is not None
    db.execute("select after_hours.announce_due()")
    db.execute(
        "update after_hours.events set emitted_at = emitted_at - %s::interval where session_id = %s", (age, session.id)
    )
    return session


def claim(db: Connection, node: str = "a", lease: str = "30 seconds") -> list[Any]:
    return db.execute("select * from after_hours.push_claim(%s, %s)", (node, lease)).fetchall()


def result(db: Connection, push: Any, status: int | None = 200, error: str | None = None, after: Any = None) -> Any:
    call = "select after_hours.push_result(%s, %s, %s, %s, %s) as state"
    row = db.execute(call, (push.push_id, push.attempt, status, error, after)).fetchone()
    assert row is not None
    return row.state


def acknowledge(db: Connection, session: Any) -> None:
    db.execute(
        "select after_hours.relay_receipts('n', array[e.id], array[e.uid], array[e.user_id], array[now()], array[now()]) "
        "from after_hours.events as e where e.session_id = %s",
        (session.id,),
    )


def pushes(db: Connection) -> list[Any]:
    return db.execute("select * from after_hours.pushes order by id").fetchall()


def make_due(db: Connection) -> None:
    """As if the lease or the back-off were over."""
    db.execute("update after_hours.pushes set next_at = clock_timestamp() where finished_at is null")


def test_an_event_that_no_client_acknowledged_is_pushed_once_its_wait_is_over(db: Connection) -> None:
    add_target(db)
    reached, unreached = announce(db), announce(db)
    announce(db, age="5 seconds")  # its wait is not over
    acknowledge(db, reached)
    (push,) = claim(db)
    event = db.execute("select * from after_hours.events where session_id = %s", (unreached.id,)).fetchone()
    assert event is not None
    assert (push.uid, push.target, push.attempt) == (event.uid, "main", 1)
    assert 90 > push.seconds_left > 20
    frame = db.execute("select %s::jsonb - 'data' as envelope, (%s::jsonb) -> 'data' as data, %s::jsonb as event",
                       (push.body, push.body, event.body)).fetchone()  # fmt: skip
    assert frame is not None
    assert (
        frame.envelope == {"type": WARNING, "timestamp": frame.data["emittedAt"]} or frame.envelope["type"] == WARNING
    )
    assert frame.data == {**frame.event, "userId": str(event.user_id)}
    assert claim(db) == []
    assert result(db, push) == "delivered"
    make_due(db)
    assert claim(db) == []
    # the third one when its time has come
    db.execute("update after_hours.events set emitted_at = emitted_at - interval '30 seconds'")
    assert len(claim(db)) == 1


def test_an_event_is_decided_when_its_own_wait_is_over_and_not_before(db: Connection) -> None:
    """Targets with different waits, events of different ages: each target reads on its own."""
    add_target(db, "soon", wait="1 second")
    add_target(db, "late", wait="1 minute")
    announce(db)
    assert [each.target for each in claim(db)] == ["soon"]
    db.execute("update after_hours.events set emitted_at = emitted_at - interval '1 minute'")
    assert [each.target for each in claim(db)] == ["late"]


def test_an_event_of_a_clock_that_was_set_back_delays_no_other(db: Connection) -> None:
    add_target(db)
    announce(db, age="-1 hour")
    announce(db)
    assert len(claim(db)) == 2


def test_only_events_since_the_target_was_added_and_of_its_types(db: Connection) -> None:
    announce(db)
    db.execute("insert into after_hours.push_targets (name, url, secret_name, types) values ('new', 'https://x.example/', 's', %s)",
               ([END],))  # fmt: skip
    assert claim(db) == []
    announce(db)
    ended = announce(db, left="-1 second")
    db.execute("update after_hours.push_targets set added_at = clock_timestamp() - interval '1 hour'")
    db.execute("update after_hours.push_state set read_to = 0")
    (push,) = claim(db)
    assert pushes(db)[0].session_id == ended.id
    assert push.seconds_left > 20  # an end is tried for retry_ends_for, not until its deadline, which has passed


STOPS: dict[str, str] = {
    "acknowledged": "select after_hours.relay_receipts('n', array[e.id], array[e.uid], array[e.user_id], array[now()], array[now()]) "
    "from after_hours.events as e where e.session_id = %s",
    "the deadline was moved": "select after_hours.extend_session(%s, '1 hour')",
    "or the session was ended": "select after_hours.end_session(%s, 'user')",
    "the session was deleted": "delete from public.after_hours_sessions where id = %s",
    "the user is blocked": "select after_hours.block_user(s.user_id, null, 'ticket') from public.after_hours_sessions as s where s.id = %s",
    "the event was trimmed": "delete from after_hours.events where session_id = %s",
    "expired": "update after_hours.pushes set not_after = clock_timestamp() where session_id = %s",
}  # fmt: skip


@pytest.mark.parametrize("reason", STOPS)
@pytest.mark.parametrize("state", ["waiting", "sending"])
def test_what_makes_a_push_needless_ends_it(db: Connection, reason: str, state: str) -> None:
    add_target(db)
    session = announce(db)
    (push,) = claim(db)
    if state == "waiting":
        assert result(db, push, 500) == "waiting"
    db.execute(STOPS[reason], (session.id,))
    make_due(db)
    assert claim(db) == []
    (row,) = pushes(db)
    assert row.state == ("expired" if reason == "expired" else "cancelled")
    assert reason in row.detail
    assert row.finished_at is not None


def test_no_attempt_is_given_out_after_the_deadline(db: Connection) -> None:
    add_target(db)
    announce(db, left="1 second", age="-0.5 seconds")  # emitted "in the future": decided at once
    for each in claim(db):
        assert 0 < each.seconds_left <= 1
        result(db, each, 500)
    db.execute("select pg_sleep(1)")
    make_due(db)
    assert claim(db) == []
    assert [each.state for each in pushes(db)] == ["expired"]


def test_a_lease_that_ends_is_given_to_another_sender(db: Connection) -> None:
    add_target(db)
    announce(db)
    (first,) = claim(db, "killed")
    assert claim(db, "other") == []
    make_due(db)
    (second,) = claim(db, "other")
    assert (second.push_id, second.attempt, second.uid, second.body) == (first.push_id, 2, first.uid, first.body)
    assert result(db, first, 500) == "sending", "a late failure takes nothing from the sender that has the lease"
    assert result(db, first, 500) is None
    assert result(db, second, 503) == "waiting"
    make_due(db)
    (third,) = claim(db)
    (row,) = pushes(db)
    assert row.attempts == 3
    assert result(db, third, 200) == "delivered"
    history = db.execute("select attempt, node, status from after_hours.push_history order by attempt").fetchall()
    assert history == [(1, "killed", 500), (2, "other", 503), (3, "a", 200)]


def test_a_success_counts_however_late(db: Connection) -> None:
    add_target(db)
    announce(db)
    (first,) = claim(db)
    make_due(db)
    (second,) = claim(db)
    assert result(db, first, 204) == "delivered"
    assert result(db, second, 500) == "delivered"


def test_attempts_come_later_each_time_and_end_with_the_deadline(db: Connection) -> None:
    add_target(db)
    announce(db, left="119 seconds", age="20 seconds")
    waits = []
    for _ in range(6):
        make_due(db)
        (push,) = claim(db)
        assert result(db, push, None, "ConnectError") == "waiting"
        (row,) = pushes(db)
        waits.append((row.next_at - datetime.now(UTC)).total_seconds())
    for number, wait in enumerate(waits):
        assert 0.5 * 2**number - 0.5 <= wait <= 2**number, waits
    make_due(db)
    (push,) = claim(db)
    assert result(db, push, 429, None, timedelta(minutes=5)) == "expired", (
        "the next attempt would be after the deadline"
    )
    (row,) = pushes(db)
    assert row.detail == "status 429"


def test_retry_after_is_kept(db: Connection) -> None:
    add_target(db)
    announce(db)
    (push,) = claim(db)
    assert result(db, push, 503, None, timedelta(seconds=30)) == "waiting"
    (row,) = pushes(db)
    assert 28 < (row.next_at - datetime.now(UTC)).total_seconds() <= 30


def test_gone_disables_the_target(db: Connection) -> None:
    add_target(db)
    announce(db)
    (push,) = claim(db)
    result(db, push, 410)
    make_due(db)
    assert claim(db) == []
    row = db.execute("select enabled, waiting, failures, last_error from after_hours.push_backlog").fetchone()
    assert row == (False, 1, 1, "status 410")


def test_concurrency_and_rate_hold_for_all_senders_together(db: Connection) -> None:
    add_target(db, concurrency=3, per_second=5)
    for _ in range(12):
        announce(db)
    got = claim(db, "a") + claim(db, "b")
    assert len(got) == 3
    for each in got:
        result(db, each)
    for _ in range(4):
        for each in claim(db, "b"):
            got.append(each)
            result(db, each)
    assert 4 <= len(got) <= 8, "five tokens, and what half a second adds"


def test_a_target_that_fails_is_asked_one_at_a_time(db: Connection) -> None:
    add_target(db, concurrency=8)
    for _ in range(12):
        announce(db)
    claim(db)
    db.execute("update after_hours.push_state set failures = 10, tokens = 50")
    db.execute("update after_hours.pushes set state = 'waiting'")
    make_due(db)
    (push,) = claim(db)
    assert claim(db) == []
    result(db, push, 200)
    db.execute("update after_hours.push_state set tokens = 50")
    assert len(claim(db)) == 8


def test_two_senders_at_the_same_moment_get_different_pushes(
    db: Connection, connect: Callable[..., Connection]
) -> None:
    add_target(db, "one", concurrency=1)
    add_target(db, "two", concurrency=8)
    for _ in range(3):
        announce(db)
    claim(db)
    make_due(db)
    first, second = connect("after_hours_push", autocommit=False), connect("after_hours_push", autocommit=False)
    one = claim(first, "a")
    second.execute("set local lock_timeout = '2s'")
    assert claim(second, "b") == [], "the targets are the first sender's until it commits"
    first.commit()
    second.commit()
    other = claim(second, "b")
    assert not {each.push_id for each in one} & {each.push_id for each in other}


def test_nothing_is_pushed_while_receipts_are_off(db: Connection) -> None:
    add_target(db)
    db.execute("update after_hours.settings set receipts = false")
    with pytest.raises(psycopg.Error, match="nothing is pushed") as caught:
        claim(db)
    assert caught.value.sqlstate == "AH081"
    with pytest.raises(psycopg.Error, match="a lease of"):
        claim(db, lease="1 second")


@pytest.mark.parametrize(
    "url",
    ["ftp://x.example/", "https://user:pass@x.example/", "https://x.example/#part", "https://x.example/a b", "x.example", "https://"],
)  # fmt: skip
def test_odd_addresses_of_targets_are_refused(db: Connection, url: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        add_target(db, url=url)


def test_seats(db: Connection, connect: Callable[..., Connection]) -> None:
    """The sender may claim and record, no more; the DBA sets targets and looks."""
    add_target(db)
    announce(db)
    sender, dba = connect("after_hours_push"), connect()
    dba.execute("set role after_hours_dba")
    (push,) = claim(sender)
    assert result(sender, push) == "delivered"
    for query in (
        "table after_hours.pushes",
        "table after_hours.push_targets",
        "table after_hours.events",
        "select * from after_hours.push_history",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sender.execute(query)
    dba.execute("update after_hours.push_targets set enabled = false")
    assert dba.execute("select target, waiting, sending from after_hours.push_backlog").fetchall() == [("main", 0, 0)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        dba.execute("delete from after_hours.pushes")
    dba.execute("delete from after_hours.push_targets")
    assert pushes(db) == []


def test_finished_pushes_are_trimmed_with_the_receipts(db: Connection) -> None:
    add_target(db)
    announce(db)
    (push,) = claim(db)
    result(db, push)
    assert db.execute("select after_hours.trim_logs()").fetchone() == (0,)
    db.execute("update after_hours.pushes set finished_at = finished_at - interval '8 days'")
    assert db.execute("select after_hours.trim_logs()").fetchone() == (1,)
    assert db.execute("select count(*) from after_hours.push_attempts").fetchone() == (0,)


def test_health_names_targets_that_fail_are_gone_or_have_no_sender(db: Connection) -> None:
    def health() -> Any:
        row = db.execute("select ok, detail from after_hours.health where check_name = 'push'").fetchone()
        assert row is not None
        return row

    assert health() == (True, "no targets")
    add_target(db)
    assert health() == (False, "main has no sender")
    announce(db)
    (push,) = claim(db)
    assert health() == (True, "1 targets, none fails")
    result(db, push, 500)
    assert health().ok, "one failure is none to wake somebody for"
    db.execute("update after_hours.push_state set failing_since = failing_since - interval '2 minutes'")
    assert "1 times: status 500" in health().detail
    make_due(db)
    (push,) = claim(db)
    result(db, push, 410)
    assert health() == (False, "main was disabled: it answered 410 Gone")
    gauges = db.execute("select value from after_hours.list_gauges() where name like 'push_%' order by name").fetchall()
    assert gauges == [(1,), (1,)]
