"""The resume rule and P4 by direct calls of the functions: which cursor is replayed, from where, in which epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.relay.conftest import cursors, expire, warn

if TYPE_CHECKING:
    from tests.conftest import Connection


def attach(db: Connection, user: UUID, cursor: str | None) -> Any:
    """One user's row of relay_attach."""
    row = db.execute("select * from after_hours.relay_attach(array[%s], array[%s], array[now()])", (user, cursor))
    return row.fetchone()


def follow(db: Connection, cursor: str | None, limit: int = 1000) -> list[Any]:
    """The rows of relay_events."""
    return db.execute("select * from after_hours.relay_events(%s, %s)", (cursor, limit)).fetchall()


def open_epoch(db: Connection, name: str, last_id: int) -> None:
    """Open an epoch, as the emitter does before its first event of a server run."""
    db.execute(
        "insert into after_hours.epochs (name, last_id, system_identifier, server_started_at)"
        " select %s, %s, system_identifier, pg_postmaster_start_time() from pg_control_system()",
        (name, last_id),
    )
    db.execute("truncate after_hours.epoch_marker")
    db.execute("insert into after_hours.epoch_marker values (%s)", (name,))


@pytest.mark.parametrize(
    ("cursor", "start"),
    [
        # bbbbbbbb, the present epoch, was opened over 1 to 6 of aaaaaaaa and holds 7 to 10; 1 to 3 are trimmed
        ("bbbbbbbb-10", "replayed"),
        ("bbbbbbbb-7", "replayed"),
        ("bbbbbbbb-3", "replayed"),
        ("bbbbbbbb-2", "reset"),  # below the floor
        ("bbbbbbbb-11", "reset"),  # above the head: of an unknown run
        ("aaaaaaaa-6", "replayed"),
        ("aaaaaaaa-3", "replayed"),
        ("aaaaaaaa-7", "reset"),  # issued in aaaaaaaa after what bbbbbbbb began with: lost, and 7 exists again
        ("aaaaaaaa-2", "reset"),
        ("cccccccc-7", "reset"),  # unknown
        ("bbbbbbbb", "reset"),
        ("bbbbbbbb-", "reset"),
        ("bbbbbbbb-0x7", "reset"),
        ("bbbbbbbb--7", "reset"),
        ("bbbbbbbb-7-8", "reset"),
        ("BBBBBBBB-7", "reset"),
        ("bbbbbbbb-99999999999999999999999", "reset"),
        ("'; drop table x; --", "reset"),
        ("é" * 2000, "reset"),
        ("", "reset"),
        (None, "fresh"),
    ],
)
def test_each_cursor_is_replayed_reset_or_fresh(db: Connection, user: UUID, cursor: str | None, start: str) -> None:
    expire(db, *[user] * 6)
    open_epoch(db, "bbbbbbbb", 6)
    expire(db, *[user] * 4)
    db.execute("delete from after_hours.events where id <= 3")
    db.execute("update after_hours.event_floor set id = 3")
    answer, page = attach(db, user, cursor), follow(db, cursor)
    assert (answer.start, page[0].start) == (start, start)
    assert answer.head == 10
    assert page[0].cursor == "bbbbbbbb-10"
    if start == "replayed":
        assert cursor
        missed = list(range(int(cursor[9:]) + 1, 11))
        assert (answer.ids or []) == missed
        assert [row.id for row in page[1:]] == missed
        assert answer.cursor == cursor
        assert (answer.cursors or []) == [f"{'aaaaaaaa' if n <= 6 else 'bbbbbbbb'}-{n}" for n in missed]
    else:
        assert answer.ids is None
        assert len(page) == 1
        assert answer.cursor == "bbbbbbbb-10"


def test_before_the_new_epoch_is_opened_lost_ids_are_reset(db: Connection, user: UUID) -> None:
    """A promoted standby that had received 4 of 6 events and has not announced yet: the old epoch is still the newest."""
    expire(db, *[user] * 4)
    assert attach(db, user, "aaaaaaaa-6").start == "reset"
    assert attach(db, user, "aaaaaaaa-4").start == "replayed"
    given_then = attach(db, user, None).cursor
    open_epoch(db, "bbbbbbbb", 4)
    expire(db, *[user] * 3)
    assert attach(db, user, given_then).ids == [5, 6, 7]
    assert attach(db, user, "aaaaaaaa-6").start == "reset"


def test_a_cursor_of_an_epoch_without_events_is_replayed(db: Connection, user: UUID) -> None:
    expire(db, user)
    open_epoch(db, "bbbbbbbb", 1)
    open_epoch(db, "cccccccc", 1)
    assert attach(db, user, "aaaaaaaa-1").start == "replayed"
    assert attach(db, user, "bbbbbbbb-1").start == "replayed"
    assert attach(db, user, "bbbbbbbb-2").start == "reset"
    assert follow(db, None)[0].cursor == "cccccccc-1"


def test_everything_trimmed_leaves_the_floor_as_head(db: Connection, user: UUID) -> None:
    expire(db, *[user] * 3)
    db.execute("update after_hours.events set emitted_at = emitted_at - interval '4 days'")
    db.execute("select after_hours.trim_events()")
    assert attach(db, user, None).cursor == "aaaaaaaa-3"
    assert attach(db, user, "aaaaaaaa-3").start == "replayed"
    assert attach(db, user, "aaaaaaaa-2").start == "reset"
    open_epoch(db, "bbbbbbbb", 3)
    expire(db, user)
    assert attach(db, user, "aaaaaaaa-3").ids == [4]


def test_the_cursor_of_a_fresh_client_is_its_latest_event_or_the_head(db: Connection, user: UUID) -> None:
    expire(db, user, uuid4(), uuid4())
    assert attach(db, user, None).cursor == "aaaaaaaa-1"
    assert attach(db, uuid4(), None).cursor == "aaaaaaaa-3"
    open_epoch(db, "bbbbbbbb", 3)
    assert attach(db, user, None).cursor == "aaaaaaaa-1"
    assert attach(db, uuid4(), None).cursor == "bbbbbbbb-3"


def test_more_than_500_missed_events_are_a_reset(db: Connection, user: UUID) -> None:
    expire(db, *[user] * 501)
    assert attach(db, user, "aaaaaaaa-0").start == "reset"
    answer = attach(db, user, "aaaaaaaa-1")
    assert answer.start == "replayed"
    assert answer.ids == list(range(2, 502))


def test_pages_reach_the_head_without_a_gap(db: Connection) -> None:
    expire(db, *[uuid4() for _ in range(25)])
    cursor, read, more = "aaaaaaaa-0", [], True
    while more:
        page = follow(db, cursor, 10)
        cursor, more = page[0].cursor, page[0].more
        read += [row.id for row in page[1:]]
    assert read == list(range(1, 26))
    assert cursor == "aaaaaaaa-25"


def test_a_page_of_filtered_warnings_moves_the_cursor(db: Connection) -> None:
    for _ in range(3):
        warn(db, uuid4(), 60)
    db.execute("update public.after_hours_sessions set expires_at = expires_at + interval '1 hour'")
    page = follow(db, "aaaaaaaa-0", 2)
    assert (page[0].cursor, page[0].more, len(page)) == ("aaaaaaaa-2", True, 1)


@pytest.mark.parametrize("change", [
    "set expires_at = expires_at + interval '1 minute'",
    "set expires_at = expires_at - interval '30 seconds'",
    "set ended_at = now()",
])  # fmt: skip
def test_a_moved_warning_is_filtered_everywhere(db: Connection, user: UUID, change: str) -> None:
    session = warn(db, user)
    assert attach(db, user, "aaaaaaaa-0").ids == [1]
    assert len(follow(db, "aaaaaaaa-0")) == 2
    db.execute(f"update public.after_hours_sessions {change} where id = %s", (session,))
    answer = attach(db, user, "aaaaaaaa-0")
    assert (answer.start, answer.ids, answer.head) == ("replayed", None, 1)
    assert len(follow(db, "aaaaaaaa-0")) == 1


def test_a_passed_warning_and_one_of_a_deleted_session_are_filtered(db: Connection, user: UUID) -> None:
    warn(db, user, 0.05)
    gone = warn(db, user)
    db.execute("delete from public.after_hours_sessions where id = %s", (gone,))
    db.execute("select pg_sleep(0.06)")
    assert attach(db, user, "aaaaaaaa-0").ids is None
    assert len(follow(db, "aaaaaaaa-0")) == 1


def test_states_of_sessions_in_the_snapshot(db: Connection, user: UUID) -> None:
    import json

    db.execute(
        """insert into public.after_hours_sessions (user_id, started_at, expires_at, ended_at) values
        (%(u)s, now() - interval '2 days', now() - interval '25 hours', null),
        (%(u)s, now() - interval '2 days', now() - interval '23 hours', null),
        (%(u)s, now() - interval '1 hour', now() + interval '1 hour', now() - interval '1 minute'),
        (%(u)s, now(), now() + interval '1 minute', null),
        (%(u)s, now(), now() + interval '90 seconds', null),
        (%(o)s, now(), now() + interval '1 minute', null)""",
        {"u": user, "o": uuid4()},
    )
    db.execute("select after_hours.announce_due()")
    db.execute(
        "update public.after_hours_sessions set expires_at = expires_at + interval '30 seconds' "
        "where expires_at > now() + interval '70 seconds' and ended_at is null"
    )
    shown = json.loads(attach(db, user, None).state)["sessions"]
    assert [one["state"] for one in shown] == ["ended", "ended", "warned", "active"]


def test_incarnations_differ_by_server_run_and_by_epoch(db: Connection, user: UUID) -> None:
    first = attach(db, user, None).incarnation
    assert first == follow(db, None)[0].incarnation
    open_epoch(db, "bbbbbbbb", 0)
    assert attach(db, user, None).incarnation != first


def test_arrays_of_different_length_are_refused_with_a_hint(db: Connection) -> None:
    with pytest.raises(psycopg.Error) as caught:
        db.execute("select * from after_hours.relay_attach(array[gen_random_uuid()], array[]::text[], array[now()])")
    assert caught.value.sqlstate == "AH060"
    assert caught.value.diag.message_hint


def test_attach_answers_in_the_order_asked(db: Connection) -> None:
    users = [uuid4() for _ in range(50)]
    expire(db, *users)
    rows = db.execute(
        "select ord, ids from after_hours.relay_attach(%s, %s, %s)",
        (users, ["aaaaaaaa-0"] * 50, [__import__("datetime").datetime.now()] * 50),
    ).fetchall()
    assert [row.ids for row in rows] == [[n] for n in range(1, 51)]


def test_the_relay_role_may_call_its_functions_and_nothing_else(db: Connection) -> None:
    may = db.execute(
        "select p.proname from pg_proc as p where p.pronamespace = 'after_hours'::regnamespace"
        " and has_function_privilege('after_hours_relay', p.oid, 'execute') order by 1"
    ).fetchall()
    assert [row.proname for row in may] == [
        "relay_attach", "relay_beat", "relay_events", "relay_probe", "relay_receipts", "relay_rescue", "relay_status",
    ]  # fmt: skip
    tables = db.execute(
        "select c.oid::regclass from pg_class as c where c.relnamespace in ('after_hours'::regnamespace,"
        " 'public'::regnamespace) and c.relkind in ('r', 'v') and has_any_column_privilege('after_hours_relay', c.oid,"
        " 'select, insert, update')"
    ).fetchall()
    assert tables == []


def test_rescue_announces_and_raises_with_a_hint_while_paused(db: Connection, connect: Any, user: UUID) -> None:
    relay = connect("after_hours_relay")
    expire(db, user, announce=False)
    db.execute("update after_hours.emitter set heartbeat_at = clock_timestamp() - interval '60 seconds'")
    rescue = "select * from after_hours.relay_rescue()"
    assert tuple(relay.execute(rescue).fetchone()) == (0, 0, 0, False), "the scheduler announces"
    assert cursors(db) == []
    db.execute("update after_hours.emitter set heartbeat_at = clock_timestamp() - interval '66 seconds'")
    assert tuple(relay.execute(rescue).fetchone()) == (1, 0, 0, False)
    assert len(cursors(db)) == 1
    db.execute("update after_hours.settings set rescue = false")
    with pytest.raises(psycopg.Error) as caught:
        relay.execute("select after_hours.relay_rescue()")
    assert (caught.value.sqlstate, bool(caught.value.diag.message_hint)) == ("AH062", True)
    db.execute(
        "insert into after_hours.pauses (job, until, reason, paused_by) values ('announce', 'infinity', 'x', 'x')"
    )
    with pytest.raises(psycopg.Error) as caught:
        relay.execute("select after_hours.relay_rescue()")
    assert (caught.value.sqlstate, bool(caught.value.diag.message_hint)) == ("AH061", True)


@pytest.mark.parametrize(
    ("heartbeat", "setting", "wanted"),
    [
        ("66 seconds", True, True),
        ("-1 hour", True, True),
        ("60 seconds", True, False),
        (None, True, False),
        ("66 seconds", False, False),
    ],
)
def test_beat_returns_whether_a_rescue_is_needed(
    db: Connection, connect: Any, heartbeat: str | None, setting: bool, wanted: bool
) -> None:
    db.execute("update after_hours.settings set rescue = %s", (setting,))
    db.execute("update after_hours.emitter set heartbeat_at = clock_timestamp() - %s::interval", (heartbeat,))
    relay = connect("after_hours_relay")
    beat = "select * from after_hours.relay_beat('n', 'live', 'notify', 1, '1 ms', now())"
    assert relay.execute(beat).fetchone().wants_rescue is wanted
    assert db.execute("select state, sockets from after_hours.relays where node = 'n'").fetchall() == [("live", 1)]
    db.execute(
        "insert into after_hours.pauses (job, until, reason, paused_by) values ('announce', 'infinity', 'x', 'x')"
    )
    assert relay.execute(beat).fetchone().wants_rescue is False


def test_receipts_refuse_others_events_and_other_epochs(db: Connection, connect: Any, user: UUID) -> None:
    expire(db, user, uuid4())
    relay = connect("after_hours_relay")
    (mine, others) = db.execute("select id, uid, user_id from after_hours.events order by id").fetchall()

    def write(id_: int, uid: UUID, owner: UUID, acked: str | None = None) -> int:
        return int(
            relay.execute(
                "select after_hours.relay_receipts('n', array[%s], array[%s::uuid], array[%s::uuid], array[now()],"
                " array[%s::timestamptz]) as rows",
                (id_, uid, owner, acked),
            )
            .fetchone()
            .rows
        )

    assert write(others.id, others.uid, user) == 0
    assert write(mine.id, uuid4(), user) == 0
    assert write(mine.id + 5, mine.uid, user) == 0
    assert write(mine.id, mine.uid, user) == 1
    assert write(mine.id, mine.uid, user) == 0
    assert write(mine.id, mine.uid, user, "2026-01-01Z") == 1
    assert write(mine.id, mine.uid, user, "2027-01-01Z") == 0
    db.execute("update after_hours.settings set receipts = false")
    assert write(others.id, others.uid, others.user_id) == 0
    row = db.execute("select event_id, epoch, first_ack = '2026-01-01Z' as first from after_hours.receipts").fetchall()
    assert row == [(1, "aaaaaaaa", True)]
