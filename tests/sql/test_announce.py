"""Announcing by hand: what is due, once, in order, and never early (P1, P2, P4 at the source)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from uuid import UUID

Connection = psycopg.Connection[Any]
Connect = Callable[..., Connection]

EXPIRING = "after_hours:session_expiring"
EXPIRED = "after_hours:session_expired"


def session(db: Connection, ends_in: str, started: str = "-1 hour", **columns: object) -> UUID:
    """A session whose deadline lies ends_in from now, e.g. "90 seconds" or "-5 seconds"."""
    row = db.execute(
        "insert into public.after_hours_sessions (user_id, started_at, expires_at, ended_at, end_reason) values "
        "(gen_random_uuid(), clock_timestamp() + %s::interval, clock_timestamp() + %s::interval, "
        "clock_timestamp() + %s::interval, %s) returning id",
        (started, ends_in, columns.get("ended"), columns.get("reason")),
    ).fetchone()
    assert row is not None
    return row.id  # type: ignore[no-any-return]


def announce(db: Connection) -> Any:
    return db.execute("select * from after_hours.announce_due()").fetchone()


def events(db: Connection) -> list[Any]:
    return db.execute("select * from after_hours.events order by id").fetchall()


def test_warning_then_end_each_once(db: Connection) -> None:
    soon = session(db, "90 seconds")
    over = session(db, "-1 second")
    session(db, "10 minutes")
    done = announce(db)
    assert (done.expired, done.expiring, done.skipped, done.has_more) == (1, 1, 0, False)
    assert [(e.type, e.session_id) for e in events(db)] == [(EXPIRED, over), (EXPIRING, soon)]
    again = announce(db)
    assert (again.expired, again.expiring) == (0, 0)
    assert len(events(db)) == 2


def test_frame_and_notify_carry_the_same(db: Connection, connect: Connect) -> None:
    listener = connect()
    listener.execute("listen after_hours_events")
    session(db, "90 seconds")
    announce(db)
    event = events(db)[0]
    frame = json.loads(event.body)
    assert list(frame) == ["type", "id", "cursor", "sessionId", "expiresAt", "minutesRemaining", "emittedAt"]
    assert frame["id"] == str(event.uid)
    assert frame["cursor"] == f"aaaaaaaa-{event.id}"
    assert frame["minutesRemaining"] == 2
    assert datetime.fromisoformat(frame["expiresAt"]) == event.deadline.replace(
        microsecond=event.deadline.microsecond // 1000 * 1000
    )
    notification = next(listener.notifies(timeout=5, stop_after=1))
    assert json.loads(notification.payload) == {**frame, "userId": str(event.user_id)}


def test_wake_payload_says_only_where(db: Connection, connect: Connect) -> None:
    db.execute("update after_hours.settings set notify_payload = 'wake'")
    listener = connect()
    listener.execute("listen after_hours_events")
    session(db, "-1 second")
    announce(db)
    notification = next(listener.notifies(timeout=5, stop_after=1))
    assert json.loads(notification.payload) == {"cursor": f"aaaaaaaa-{events(db)[0].id}"}


@pytest.mark.parametrize(
    ("ended", "reason", "told"),
    [
        (None, None, "timeout"),
        ("-1 minute", "left", "ended"),
        ("-1 minute", None, "ended"),
        ("-1 minute", "moderation", "moderation"),
        ("-1 second", "moderation", "timeout"),
    ],
)
def test_reason(db: Connection, ended: str | None, reason: str | None, told: str) -> None:
    session(db, "-5 seconds", ended=ended, reason=reason)
    announce(db)
    assert json.loads(events(db)[0].body)["reason"] == told


def test_no_warning_once_ended_or_over(db: Connection) -> None:
    session(db, "90 seconds", ended="30 seconds")
    session(db, "-1 second")
    announce(db)
    assert [e.type for e in events(db)] == [EXPIRED]


def test_warning_of_a_short_session_is_due_at_its_start(db: Connection) -> None:
    session(db, "30 seconds", started="10 seconds")
    assert announce(db).expiring == 0
    begun = session(db, "30 seconds", started="-1 second")
    announce(db)
    event = events(db)[0]
    started = db.execute("select started_at from public.after_hours_sessions where id = %s", (begun,)).fetchone()
    assert started is not None
    assert (event.session_id, event.due_at) == (begun, started.started_at)


def test_extension_rearms_both_by_itself(db: Connection) -> None:
    chat = session(db, "60 seconds")
    announce(db)
    db.execute("select after_hours.extend_session(%s, '30 seconds')", (chat,))
    announce(db)
    db.execute("update public.after_hours_sessions set expires_at = clock_timestamp() where id = %s", (chat,))
    announce(db)
    assert [e.type for e in events(db)] == [EXPIRING, EXPIRING, EXPIRED]
    assert len({e.deadline for e in events(db)}) == 3
    assert len({e.uid for e in events(db)}) == 3


def test_a_deadline_returned_to_is_not_told_twice(db: Connection) -> None:
    chat = session(db, "60 seconds")
    announce(db)
    first = events(db)[0].deadline
    for deadline in (first + timedelta(seconds=20), first):
        db.execute("update public.after_hours_sessions set expires_at = %s where id = %s", (deadline, chat))
        announce(db)
    assert [e.deadline for e in events(db)] == [first, first + timedelta(seconds=20)]
    assert announce(db).next_due == first


def test_stable_id_survives_the_epoch(db: Connection) -> None:
    session(db, "-1 second")
    announce(db)
    first = events(db)[0]
    db.execute("delete from after_hours.events; delete from after_hours.epoch_marker")  # a standby that lagged behind
    announce(db)
    again = events(db)[0]
    assert again.uid == first.uid
    assert again.epoch != first.epoch


def test_adopted_past_is_never_announced(db: Connection) -> None:
    db.execute("update after_hours.settings set announce_since = clock_timestamp()")
    session(db, "-1 hour")
    done = announce(db)
    assert (done.expired, done.next_due) == (0, None)


def test_next_due_is_the_warning_then_the_end(db: Connection) -> None:
    chat = session(db, "10 minutes")
    row = db.execute("select expires_at from public.after_hours_sessions where id = %s", (chat,)).fetchone()
    assert row is not None
    assert announce(db).next_due == row.expires_at - timedelta(minutes=2)
    db.execute("update after_hours.settings set warning_lead = '11 minutes'")
    assert announce(db).expiring == 1
    db.execute("update after_hours.settings set warning_lead = '2 minutes'")
    assert announce(db).next_due == row.expires_at


def test_limit_leaves_the_rest_and_says_so(db: Connection) -> None:
    for _ in range(3):
        session(db, "-1 second")
    done = db.execute("select * from after_hours.announce_due(2)").fetchone()
    assert (done.expired, done.has_more) == (2, True)  # type: ignore[union-attr]
    done = db.execute("select * from after_hours.announce_due(2)").fetchone()
    assert (done.expired, done.has_more) == (1, False)  # type: ignore[union-attr]


def test_locked_session_is_skipped_not_waited_for(db: Connection, connect: Connect) -> None:
    held = session(db, "-2 seconds")
    free = session(db, "-1 second")
    holder = connect(autocommit=False)
    holder.execute("select from public.after_hours_sessions where id = %s for update", (held,))
    done = announce(db)
    assert (done.expired, done.skipped) == (1, 1)
    assert [e.session_id for e in events(db)] == [free]
    holder.rollback()
    assert announce(db).expired == 1


def test_what_was_known_ahead_is_told_apart_from_what_was_set_late(db: Connection, connect: Connect) -> None:
    announce(db)
    ahead, held = session(db, "0.3 seconds"), session(db, "0.3 seconds")
    holder = connect(autocommit=False)
    holder.execute("select from public.after_hours_sessions where id = %s for update", (held,))
    time.sleep(0.4)
    announce(db)
    late = session(db, "-1 second")
    holder.rollback()
    announce(db)
    known = {e.session_id: e.known_ahead for e in events(db) if e.type == EXPIRED}
    assert known == {ahead: True, late: False, held: False}
    assert {(row.known_ahead, row.events) for row in db.execute("select * from after_hours.lateness").fetchall()} == {
        (True, 1), (False, 2),
    }  # fmt: skip


def test_a_locked_row_keeps_no_sweep_and_no_later_deadline_waiting(db: Connection, connect: Connect) -> None:
    # One flag "skipped" once repeated all sweeps since the lock: 0.2 to 2.4 s of lateness for everybody else.
    held = session(db, "-2 seconds")
    holder = connect(autocommit=False)
    holder.execute("select from public.after_hours_sessions where id = %s for update", (held,))
    now = db.execute("select clock_timestamp() as now").fetchall()[0].now
    (done,) = db.execute(
        "select d.skipped, d.has_more, (d.progress).* from after_hours.emit_due(%(now)s, 2000, null, null,"
        " row(%(now)s - interval '1 second', %(now)s, null, null, null, null, null)) as d",
        {"now": now},
    ).fetchall()
    assert (done.skipped, done.has_more, done.swept_at) == (1, False, now)
    assert done.sweep_at > now
    assert done.retry_at == now + timedelta(milliseconds=20)
    assert db.execute("select session_id, sqlstate from after_hours.set_aside").fetchall() == [(held, "55P03")]
    assert db.execute("select session_id from after_hours.upcoming").fetchall() == [(held,)]
    assert db.execute("select ok from after_hours.health where check_name = 'set_aside'").fetchall() == [(True,)]


@pytest.mark.parametrize("table", ["public.after_hours_sessions", "after_hours.events", "after_hours.set_aside"])
def test_a_locked_table_is_no_fault_of_the_rows(db: Connection, connect: Connect, table: str) -> None:
    # A lock in mode EXCLUSIVE lets the due rows be read, not locked: they were set aside as at fault, for 5 s.
    for _ in range(3):
        session(db, "-2 seconds")
    holder = connect(autocommit=False)
    holder.execute(f"lock table {table} in exclusive mode".encode())
    if table.endswith("set_aside"):
        holder.execute("select from public.after_hours_sessions limit 1 for update")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        connect().execute("select * from after_hours.announce_pass(now() + interval '1 minute')")
    holder.rollback()
    assert db.execute("select * from after_hours.set_aside").fetchall() == []
    assert announce(db).expired == 3


def test_a_row_that_is_free_again_is_told_however_many_are_locked(db: Connection, connect: Connect) -> None:
    # The retries once began with the same rows each time.
    for _ in range(12):
        session(db, "-2 seconds")
    last = session(db, "-1 second")
    many, one = connect(autocommit=False), connect(autocommit=False)
    one.execute("select from public.after_hours_sessions where id = %s for update", (last,))
    many.execute("update public.after_hours_sessions set expires_at = expires_at + '1 hour' where id <> %s", (last,))
    announce(db)
    one.rollback()
    progress = (None,) * 7
    for _ in range(13 // 2 + 1):
        assert events(db) == []
        (progress,) = db.execute(
            "select (d.progress).* from after_hours.emit_due("
            "clock_timestamp(), 2000, 2, null, row(now(), now() + '1 h', now(), %s, %s, %s, %s)) as d",
            progress[3:],
        ).fetchall()
    assert [e.session_id for e in events(db)] == [last]
    many.commit()
    announce(db)
    assert db.execute("select from after_hours.set_aside").fetchall() == [], "what was moved is no longer due"
    assert len(events(db)) == 1


@pytest.mark.parametrize("role", ["after_hours_jobs", "after_hours_dba", "postgres"])
def test_who_stays_idle_with_the_announcers_lock_is_ended(db: Connection, connect: Connect, role: str) -> None:
    # An open transaction that had called announce_due() or relay_rescue() once stopped announcing for as long as it stayed.
    caller = connect(autocommit=False)
    caller.execute(f"set role {role}".encode())
    caller.execute("select after_hours.announce_due()")
    assert caller.execute("show idle_in_transaction_session_timeout").fetchone() == ("5s",)
    caller.commit()
    assert caller.execute("show idle_in_transaction_session_timeout").fetchone() == ("0",), "for that transaction only"
    caller.commit()
    caller.execute("select after_hours.announce_due()")
    time.sleep(5.5)
    announce(db)
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        caller.execute("select 1")
    caller.close()


@pytest.mark.parametrize("table", ["settings", "emitter", "events", "set_aside", "event_floor", "holds", "purge_runs"])
def test_a_dba_can_not_lock_what_announcing_needs(db: Connection, connect: Connect, table: str) -> None:
    dba = connect(autocommit=False)
    dba.execute("set role after_hours_dba")
    dba.execute("update after_hours.settings set announce_batch = announce_batch, retention = retention")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        dba.execute(f"lock table after_hours.{table} in exclusive mode".encode())


def test_row_that_raises_is_set_aside_and_the_others_go_out(db: Connection) -> None:
    db.execute("""
        create function public.refuse() returns trigger language plpgsql as
        $$ begin raise exception 'not this one' using errcode = 'ZZ001'; end $$;
        create trigger refuse before insert on after_hours.events
        for each row when (new.body like '%"moderation"%') execute function public.refuse()""")
    try:
        cursed = session(db, "-2 seconds", ended="-3 seconds", reason="moderation")
        for _ in range(6):
            session(db, "-1 second")
        assert announce(db).expired == 6
        assert cursed not in {e.session_id for e in events(db)}
        aside = db.execute("select * from after_hours.set_aside").fetchone()
        assert aside is not None
        assert (aside.session_id, aside.sqlstate, aside.attempts) == (cursed, "ZZ001", 1)
        assert announce(db).expired == 0
        assert announce(db).next_due is None, "a loop must not spin on it"
        db.execute("update after_hours.set_aside set retry_at = clock_timestamp()")
        announce(db)
        assert db.execute("select attempts from after_hours.set_aside").fetchall() == [(2,)]
        health = "select ok, detail from after_hours.health where check_name = 'set_aside'"
        (check,) = db.execute(health).fetchall()
        assert not check.ok
        assert "1 sessions could not be announced" in check.detail
        with db.transaction(force_rollback=True):
            db.execute(
                "update public.after_hours_sessions set ended_at = now() + interval '1 hour' where id = %s", (cursed,)
            )
            assert db.execute(health).fetchall()[0].ok, "what was due then no longer stands"
    finally:
        db.execute("drop function public.refuse() cascade")
    db.execute("update after_hours.set_aside set retry_at = clock_timestamp()")
    assert announce(db).expired == 1
    assert db.execute("select from after_hours.set_aside").fetchall() == []


def test_repeatable_read_is_refused(db: Connection, connect: Connect) -> None:
    other = connect(autocommit=False)
    other.execute("set transaction isolation level repeatable read")
    with pytest.raises(psycopg.Error) as caught:
        other.execute("select after_hours.announce_due()")
    assert caught.value.sqlstate == "AH041"


def test_synchronous_commit_is_on_for_events_only(db: Connection, connect: Connect) -> None:
    other = connect(autocommit=False)
    other.execute("set synchronous_commit = off")
    other.commit()
    announce(other)
    assert other.execute("show synchronous_commit").fetchall() == [("off",)]
    session(db, "-1 second")
    announce(other)
    assert other.execute("show synchronous_commit").fetchall() == [("on",)]
    other.commit()
    assert other.execute("show synchronous_commit").fetchall() == [("off",)]


def test_epoch_is_opened_once_a_run(db: Connection) -> None:
    session(db, "-1 second")
    announce(db)
    session(db, "-1 second")
    announce(db)
    assert {e.epoch for e in events(db)} == {"aaaaaaaa"}
    db.execute("truncate after_hours.epoch_marker")  # what a crash restart does to an UNLOGGED table
    assert len(db.execute("select from after_hours.epochs").fetchall()) == 1, "opened only by the next event"
    session(db, "-1 second")
    announce(db)
    opened = db.execute("select * from after_hours.epochs order by ordinal desc limit 1").fetchone()
    assert opened is not None
    assert (events(db)[2].epoch, opened.last_id) == (opened.name, events(db)[1].id)


def test_trimming_raises_the_floor(db: Connection) -> None:
    for _ in range(3):
        session(db, "-1 second")
    announce(db)
    ids = [e.id for e in events(db)]
    db.execute("update after_hours.events set emitted_at = emitted_at - interval '4 days' where id <= %s", (ids[1],))
    assert db.execute("select after_hours.trim_events(1)").fetchall() == [(1,)]
    assert db.execute("select id from after_hours.event_floor").fetchall() == [(ids[0],)]
    assert db.execute("select after_hours.trim_events()").fetchall() == [(1,)]
    assert db.execute("select after_hours.trim_events()").fetchall() == [(0,)]
    assert db.execute("select id from after_hours.event_floor").fetchall() == [(ids[1],)]


def test_pause_stops_the_loop_at_its_next_pass(db: Connection, connect: Connect) -> None:
    session(db, "-1 second")
    db.execute("select after_hours.pause_job('announce', clock_timestamp() + interval '1 minute', 'test')")
    jobs = connect("after_hours_jobs")
    jobs.execute("call after_hours.announce_loop('0.25 s')")  # would last up to two minutes if it did not look
    assert events(db) == []
    assert db.execute("select after_hours.resume_job('announce')").fetchall() == [(True,)]


def test_tick_mode_announces_until_nothing_is_left_and_returns(db: Connection, connect: Connect) -> None:
    db.execute("update after_hours.settings set announce_mode = 'tick', announce_batch = 2")
    for _ in range(7):
        session(db, "-1 second")
    jobs = connect("after_hours_jobs")
    jobs.execute("call after_hours.announce_loop('30.25 s')")
    assert events(db) == []
    jobs.execute("call after_hours.announce_loop('0.25 s')")
    assert len(events(db)) == 7
    assert len({event.xmin for event in db.execute("select xmin from after_hours.events").fetchall()}) == 4, (
        "a commit each page"
    )


def test_a_copy_announces_and_pushes_nothing_before_it_is_released(db: Connection, connect: Connect) -> None:
    """As after pg_dump into another cluster: the epochs are those of a server with another system identifier."""
    db.execute("update after_hours.epochs set system_identifier = 1")
    session(db, "-1 second")
    jobs = connect("after_hours_jobs")
    jobs.execute("call after_hours.announce_loop('0.25 s')")  # would last up to two minutes if it did not look
    with pytest.raises(psycopg.Error, match="nothing is announced in it") as caught:
        announce(db)
    assert caught.value.sqlstate == "AH044"
    with pytest.raises(psycopg.Error, match="nothing is pushed from it"):
        db.execute("select * from after_hours.push_claim('test')")
    assert events(db) == []
    health = "select check_name from after_hours.health where detail ~ 'copy|identity' and not ok order by 1"
    assert [row.check_name for row in db.execute(health)] == ["announcing", "brake"]
    db.execute("select after_hours.arm('it takes the place of the original')")
    assert announce(db).expired == 1
    assert db.execute(health).fetchall() == []


@pytest.mark.parametrize("status", ["braked", "paused"])
def test_a_run_that_did_nothing_here_does_not_release_a_copy(db: Connection, status: str) -> None:
    db.execute("update after_hours.epochs set system_identifier = 1")
    db.execute(
        "insert into after_hours.purge_runs (trigger, status, lease_until, run_by, backend_pid, retention, cutoff, batch_size, "
        "system_identifier, database_name) select 'schedule', %s, now(), 'x', 1, '30 days', now(), 1, i.* from after_hours.database_identity() as i",
        (status,),
    )
    assert db.execute("select after_hours.is_copy()").fetchone() == (True,)


def test_a_restart_of_the_server_makes_no_copy(db: Connection) -> None:
    db.execute("update after_hours.epochs set server_started_at = server_started_at - interval '1 day'")
    session(db, "-1 second")
    assert announce(db).expired == 1
