"""Other people's schema: what references, guards or hides matches and messages. Nothing lost, nothing stuck, all named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.purge_helpers import ids, make_match, messages_of, purge, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Connection, Instance

    Connect = Callable[..., Connection]


@pytest.fixture
def theirs(db: Connection) -> Iterator[Connection]:
    """A schema of the application's; gone afterwards, with all it hung on our tables."""
    db.execute("create schema theirs; grant usage on schema theirs to public")
    try:
        yield db
    finally:
        db.execute("drop schema theirs cascade")
        db.execute("alter table public.after_hours_messages disable row level security")
        db.execute("alter role after_hours_owner nobypassrls; alter role after_hours_eraser nobypassrls")


def ties(db: Connection) -> dict[str, Any]:
    return {row.name: row for row in db.execute("select * from after_hours.list_dependencies()").fetchall()}


def staying(db: Connection) -> dict[UUID, Any]:
    return {row.match_id: row for row in db.execute("select * from after_hours.not_purged").fetchall()}


@pytest.mark.parametrize(
    "action",
    ["no action", "restrict", "no action deferrable initially deferred", "no action deferrable initially immediate"],
)
def test_a_referencing_row_is_a_natural_hold(theirs: Connection, action: str) -> None:
    theirs.execute(
        "create table theirs.reports (match_id uuid constraint reports_fk references public.after_hours_matches on delete "
        f"{action}); create index on theirs.reports (match_id)"
    )
    matches = [make_match(theirs) for _ in range(30)]
    reported = {matches[3], matches[17]}
    for match in reported:
        theirs.execute("insert into theirs.reports values (%s)", (match,))
    run = purge(theirs)
    assert (run.status, run.matches, run.failed) == ("succeeded", 28, 2)
    assert ids(theirs) == reported
    assert all(messages_of(theirs, match) == 3 for match in reported)
    rows = staying(theirs)
    assert rows.keys() == reported
    assert {row.reason for row in rows.values()} == {"referenced"}
    assert all("reports" in row.detail for row in rows.values())
    # each run tries again; once the row is gone the match goes
    theirs.execute("delete from theirs.reports where match_id = %s", (matches[3],))
    run = purge(theirs)
    assert (run.matches, run.failed) == (1, 1)
    assert staying(theirs)[matches[17]].detail.endswith("2 attempts")
    assert value(theirs, "select bool_and(ok) from after_hours.verify_evidence()")


def test_a_cascade_takes_its_rows_along_and_the_preview_says_how_many(theirs: Connection) -> None:
    theirs.execute(
        "create table theirs.stickers (match_id uuid constraint stickers_fk references public.after_hours_matches on delete "
        "cascade); create index on theirs.stickers (match_id)"
    )
    due, saved = make_match(theirs), make_match(theirs, saved=True)
    theirs.execute("insert into theirs.stickers values (%s), (%s), (%s)", (due, due, saved))
    look = "select * from after_hours.purge_preview() where item like '%%stickers_fk%%'"
    row = theirs.execute(look).fetchone()
    assert row is not None
    assert row.messages is None
    assert "grant select on theirs.stickers to after_hours_owner" in row.detail
    theirs.execute(
        "grant usage on schema theirs to after_hours_owner; grant select on theirs.stickers to after_hours_owner"
    )
    row = theirs.execute(look).fetchone()
    assert row is not None
    assert row.messages == 2
    assert "rows there are deleted too" in row.detail
    facts = dict(theirs.execute("select item, value from after_hours.explain_match(%s)", (due,)).fetchall())
    assert facts["rows in theirs.stickers"] == "2 by stickers_fk: rows there are deleted too"
    assert purge(theirs).matches == 1
    assert ids(theirs, "select match_id from theirs.stickers") == {saved}


def test_set_null_and_keys_on_messages(theirs: Connection) -> None:
    theirs.execute(
        "create table theirs.links (id int, match_id uuid constraint links_fk references public.after_hours_matches "
        "on delete set null); create index on theirs.links (match_id);"
        "create table theirs.pins (match_id uuid, message_id bigint constraint pins_fk references public.after_hours_messages); "
        "create index on theirs.pins (message_id)"
    )
    plain, pinned = make_match(theirs), make_match(theirs)
    theirs.execute("insert into theirs.links values (1, %s)", (plain,))
    theirs.execute(
        "insert into theirs.pins select match_id, id from public.after_hours_messages where match_id = %s limit 1",
        (pinned,),
    )
    assert purge(theirs).matches == 1
    assert value(theirs, "select count(*) from theirs.links where match_id is null") == 1
    assert staying(theirs)[pinned].reason == "referenced"
    assert messages_of(theirs, pinned) == 3


def test_an_unindexed_reference_is_red(theirs: Connection) -> None:
    theirs.execute(
        "create table theirs.notes (match_id uuid constraint notes_fk references public.after_hours_matches)"
    )
    tie = ties(theirs)["notes_fk"]
    assert tie.is_red
    assert "create index concurrently on theirs.notes (match_id);" in tie.detail
    red = theirs.execute("select detail from after_hours.purge_preview() where item like '%%notes_fk%%'").fetchone()
    assert red is not None
    assert red.detail.startswith("RED.")
    theirs.execute("create index on theirs.notes (match_id)")
    assert not ties(theirs)["notes_fk"].is_red


@pytest.mark.parametrize("table", ["matches", "messages"])
def test_a_soft_delete_trigger_keeps_the_whole_match(theirs: Connection, table: str) -> None:
    theirs.execute(
        "create function theirs.keep() returns trigger language plpgsql as $$ begin return null; end $$;"
        f"create trigger soft_delete before delete on public.after_hours_{table} for each row execute function theirs.keep()"
    )
    matches = {make_match(theirs) for _ in range(5)}
    empty = make_match(theirs, messages=0)
    run = purge(theirs)
    assert run.status == ("partial" if table == "matches" else "succeeded"), "all set aside is no success"
    assert ids(theirs) - {empty} == matches
    assert all(messages_of(theirs, match) == 3 for match in matches)
    rows = staying(theirs)
    assert matches <= rows.keys()
    assert "before each delete and may keep the row" in ties(theirs)["soft_delete"].effect
    theirs.execute("drop function theirs.keep() cascade")
    assert purge(theirs).status == "succeeded"
    assert ids(theirs) == set()


def test_a_message_kept_without_any_foreign_key_is_noticed(theirs: Connection) -> None:
    """The second look: with the key disabled nothing else would tell."""
    theirs.execute(
        "create function theirs.keep() returns trigger language plpgsql as $$ begin return null; end $$;"
        "create trigger soft_delete before delete on public.after_hours_messages for each row execute function theirs.keep();"
        "alter table public.after_hours_messages disable trigger all;"
        "alter table public.after_hours_messages enable trigger soft_delete; alter table public.after_hours_matches disable trigger all"
    )
    try:
        assert not value(theirs, "select after_hours.has_enforced_key()")
        match = make_match(theirs)
        assert purge(theirs).failed == 1
        assert messages_of(theirs, match) == 3
        assert staying(theirs)[match].detail.startswith("a trigger kept messages from being deleted")
        assert ties(theirs)["after_hours_messages_match_id_fkey"].is_red
    finally:
        theirs.execute(
            "alter table public.after_hours_messages enable trigger all; alter table public.after_hours_matches enable trigger all"
        )


def test_one_match_that_raises_is_set_aside_and_the_run_goes_on(theirs: Connection) -> None:
    theirs.execute(
        "create table theirs.cursed (id uuid);"
        "create function theirs.raise_it() returns trigger language plpgsql security definer as $$ begin "
        "if exists (select from theirs.cursed where id = old.match_id) then raise exception 'no % here', 'luck'; end if; "
        "return old; end $$;"
        "create trigger raise_it before delete on public.after_hours_messages for each row execute function theirs.raise_it()"
    )
    matches = [make_match(theirs) for _ in range(50)]
    cursed = set(matches[10:13])
    for match in cursed:
        theirs.execute("insert into theirs.cursed values (%s)", (match,))
    run = purge(theirs)
    assert (run.status, run.matches, run.failed) == ("succeeded", 47, 3)
    rows = staying(theirs)
    assert rows.keys() == cursed
    assert {row.reason for row in rows.values()} == {"set aside"}
    assert all(row.detail.startswith("no luck here. (P0001)") for row in rows.values())
    assert all(messages_of(theirs, match) == 3 for match in cursed)


def test_a_deferred_trigger_speaks_in_the_batch_not_at_the_commit(theirs: Connection) -> None:
    theirs.execute(
        "create function theirs.object() returns trigger language plpgsql as $$ begin raise exception 'objection'; end $$;"
        "create constraint trigger object after delete on public.after_hours_matches deferrable initially deferred "
        "for each row execute function theirs.object()"
    )
    match = make_match(theirs)
    run = purge(theirs)
    assert (run.status, run.failed) == ("partial", 1)
    assert messages_of(theirs, match) == 3
    assert "objection" in staying(theirs)[match].detail


def test_row_security_is_an_error_not_a_silent_nothing(theirs: Connection) -> None:
    theirs.execute("alter table public.after_hours_messages enable row level security")
    match = make_match(theirs)
    run = purge(theirs)
    assert run.status == "braked"
    assert run.detail.startswith("row security on")
    assert value(theirs, "select detail from after_hours.health where check_name = 'brake'") == run.detail
    with pytest.raises(psycopg.Error, match="row security on") as caught:
        purge(theirs, "p_override_brake => 'no release helps'")
    assert caught.value.sqlstate == "AH015"
    assert value(theirs, "select status from after_hours.purge_runs order by id desc limit 1") == "failed"
    assert messages_of(theirs, match) == 3
    for call in (
        "purge_preview()",
        "retained_messages",
        f"retained_messages where match_id = '{match}'",
        "not_purged",
        "backlog",
    ):
        with pytest.raises(psycopg.Error) as caught:
            theirs.execute(f"select * from after_hours.{call}")
        assert caught.value.sqlstate in {"AH015", "42501"}
    assert any(tie.kind == "row security" and tie.is_red for tie in ties(theirs).values())
    theirs.execute("alter role after_hours_owner bypassrls; alter role after_hours_eraser bypassrls")  # the hint
    assert purge(theirs).matches == 1


def test_a_transaction_at_repeatable_read_loses_nothing(theirs: Connection, connect: Connect) -> None:
    match, other = make_match(theirs), make_match(theirs)
    app = connect("after_hours_app")
    app.execute("begin isolation level repeatable read")
    assert value(app, "select count(*) from public.after_hours_messages") == 6
    app.execute("update public.after_hours_matches set converted_to_match_id = %s where id = %s", (uuid4(), other))
    assert purge(theirs).matches == 1
    # what it saw at its start it still sees; what it wants to change is told that it is too late
    assert value(app, "select count(*) from public.after_hours_messages") == 6
    with pytest.raises(psycopg.errors.SerializationFailure):
        app.execute("update public.after_hours_matches set converted_to_match_id = %s where id = %s", (uuid4(), match))
    app.execute("rollback")
    assert ids(theirs) == {other}
    assert messages_of(theirs, other) == 3


def test_the_deadlock_is_the_purges_to_lose(theirs: Connection, connect: Connect) -> None:
    """Messages first, match second, against a purge that is in its batch: the application's transaction goes through."""
    match = make_match(theirs)
    theirs.execute(
        "create function theirs.slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.02); return old; end $$;"
        "create trigger slow before delete on public.after_hours_messages for each row execute function theirs.slow()"
    )
    app = connect()
    for _ in range(3):
        with app.transaction():
            app.execute("update public.after_hours_messages set body = 'edited' where match_id = %s", (match,))
            run = purge(theirs, "p_max_seconds => 1")
            app.execute("update public.after_hours_matches set expires_at = expires_at where id = %s", (match,))
        assert run.status == "partial"
    assert purge(theirs).matches == 1


def test_lost_privileges_are_an_error_of_the_run(theirs: Connection) -> None:
    match = make_match(theirs)
    theirs.execute("revoke delete on public.after_hours_messages from after_hours_eraser")
    try:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            purge(theirs)
        run = theirs.execute("select * from after_hours.purge_history where run_id is not null").fetchone()
        assert run is not None
        assert (run.status, run.matches, run.failed) == ("failed", 0, 0)
        assert value(theirs, "select count(*) from after_hours.purge_failures") == 0  # no match is to blame
        assert messages_of(theirs, match) == 3
    finally:
        theirs.execute("grant delete on public.after_hours_messages to after_hours_eraser")
    assert purge(theirs).matches == 1


def test_a_function_that_is_gone_is_an_error_of_the_run(theirs: Connection) -> None:
    """Class 42 from inside a trigger: every match would meet it, and none is set aside one by one."""
    matches = [make_match(theirs) for _ in range(5)]
    theirs.execute(
        "create function theirs.broken() returns trigger language plpgsql as "
        "$$ begin perform theirs.no_such_function(); return old; end $$;"
        "create trigger broken before delete on public.after_hours_matches for each row execute function theirs.broken()"
    )
    with pytest.raises(psycopg.errors.UndefinedFunction):
        purge(theirs)
    assert value(theirs, "select count(*) from after_hours.purge_failures") == 0
    assert ids(theirs) == set(matches)


def test_adopted_with_a_cascade_of_its_own(theirs: Connection, instance: Instance) -> None:
    """An adopted table whose own key cascades: the purge deletes and counts the messages itself all the same."""
    del instance
    theirs.execute(
        "alter table public.after_hours_messages drop constraint after_hours_messages_match_id_fkey, "
        "add constraint after_hours_messages_match_id_fkey foreign key (match_id) references public.after_hours_matches on delete cascade"
    )
    try:
        make_match(theirs, messages=4)
        run = purge(theirs)
        assert (run.matches, run.messages) == (1, 4)
        assert ties(theirs)["after_hours_messages_match_id_fkey"].is_red
    finally:
        theirs.execute(
            "alter table public.after_hours_messages drop constraint after_hours_messages_match_id_fkey, "
            "add constraint after_hours_messages_match_id_fkey foreign key (match_id) references public.after_hours_matches"
        )
