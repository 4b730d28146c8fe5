"""Code that the tables' owner hangs on its tables runs with no right beyond the row change itself (REVIEW 2)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.sql.purge_helpers import make_match, value
from tests.sql.test_announce import session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Connection

TABLES = ("after_hours_sessions", "after_hours_matches", "after_hours_messages")

# Each attack is tried by itself; what succeeds is noted in a table that everybody may write. A sequence keeps counting
# when the transaction is rolled back: that the code ran at all is a part of the test.
ATTACK = """
    create schema hostile authorization hostile_owner;
    grant usage, create on schema hostile to public;
    set session authorization hostile_owner;
    create table hostile.won (what text, who text);
    create sequence hostile.ran;
    grant all on hostile.won, hostile.ran to public;
    create function hostile.attack() returns boolean language plpgsql as $$
    declare
        v_statement text;
    begin
        perform nextval('hostile.ran');
        foreach v_statement in array array[
            'update after_hours.evidence_chain set head = head',
            'delete from after_hours.purged_matches',
            'delete from after_hours.holds',
            'insert into after_hours.holds (user_id, kind, reason, placed_by) values (gen_random_uuid(), ''report'', ''x'', ''x'')',
            'update after_hours.events set body = body',
            'delete from after_hours.events',
            'update after_hours.settings set retention = interval ''1 day''',
            'update after_hours.purge_runs set status = status',
            'insert into after_hours.user_blocks (user_id) values (gen_random_uuid())',
            'select * from after_hours.events',
            'select after_hours.place_user_hold(gen_random_uuid(), ''report'', ''x'')',
            'create function after_hours.planted() returns int language sql as ''select 1''',
            'set role after_hours_owner',
            'select pg_read_file(''/etc/passwd'')'
        ]
        loop
            begin
                execute v_statement;
                insert into hostile.won values (v_statement, current_user);
            exception when others then
                null;
            end;
        end loop;
        return true;
    end $$;
    create function hostile.fire() returns trigger language plpgsql as
    $$ begin perform hostile.attack(); return coalesce(new, old); end $$;
    create function hostile.number(bigint) returns bigint immutable language plpgsql as
    $$ begin perform hostile.attack(); return $1; end $$;
    create function hostile.number(timestamptz) returns bigint immutable language plpgsql as
    $$ begin perform hostile.attack(); return 1; end $$;
    reset session authorization
"""

EVENTS = "insert or update or delete"
KINDS = {
    "row trigger": f"create trigger h before {EVENTS} on public.{{t}} for each row execute function hostile.fire()",
    "after trigger": f"create trigger h after {EVENTS} on public.{{t}} for each row execute function hostile.fire()",
    "statement trigger": f"create trigger h after {EVENTS} on public.{{t}} for each statement execute function hostile.fire()",
    "deferred trigger": f"create constraint trigger h after {EVENTS} on public.{{t}} deferrable initially deferred "
    "for each row execute function hostile.fire()",
    "rule": "create rule h as on {e} to public.{t} do also select hostile.attack()",
    "check": "alter table public.{t} add constraint h check (hostile.attack()) not valid",
    "index expression": "create index h on public.{t} (hostile.number({c}))",
    "generated column": "alter table public.{t} add column h bigint generated always as (hostile.number({c})) stored",
    "default": "alter table public.{t} add column h boolean; alter table public.{t} alter h set default hostile.attack()",
}
UNDO = (
    "drop trigger if exists h on public.{t}; drop rule if exists h on public.{t}; "
    "alter table public.{t} drop constraint if exists h; drop index if exists public.h; "
    "alter table public.{t} drop column if exists h"
)
# A DELETE evaluates no check, index expression, generated column or default of the row that goes.
RUNS_ON_DELETE = {"row trigger", "after trigger", "statement trigger", "deferred trigger", "rule"}


@pytest.fixture
def hostile(db: Connection) -> Iterator[Connection]:
    """The three tables belong to an ordinary role with functions of its own; given back afterwards."""
    db.execute("create role hostile_owner nologin")
    db.execute(ATTACK)
    db.execute("grant create on schema public to hostile_owner")
    for table in TABLES:
        db.execute(f"alter table public.{table} owner to hostile_owner")
    try:
        yield db
    finally:
        for table in TABLES:
            db.execute(UNDO.format(t=table))
            db.execute(f"alter table public.{table} owner to postgres")
        db.execute(
            "drop schema hostile cascade; revoke create on schema public from hostile_owner; drop role hostile_owner"
        )


def plant(db: Connection, kind: str, table: str) -> None:
    column = {"after_hours_sessions": "ended_at", "after_hours_matches": "expires_at", "after_hours_messages": "id"}[
        table
    ]
    event = "update" if table == "after_hours_sessions" else "delete"
    db.execute("set session authorization hostile_owner")
    db.execute(KINDS[kind].format(t=table, c=column, e=event))
    db.execute("reset session authorization")
    db.execute("truncate hostile.won")
    db.execute("alter sequence hostile.ran restart")


def won(db: Connection) -> list[Any]:
    return db.execute("select * from hostile.won where who <> 'hostile_owner'").fetchall()


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_tables_owner_runs_with_our_rights(hostile: Connection, kind: str, table: str) -> None:
    over = session(hostile, "-1 second")
    match = make_match(hostile)
    held = make_match(hostile)
    hostile.execute("select after_hours.place_hold(%s, 'report', 'x')", (held,))
    plant(hostile, kind, table)
    # by the roles that do it in earnest: pg_cron's, and a DBA's member
    for role, call in (
        ("after_hours_jobs", "select * from after_hours.announce_due()"),
        ("after_hours_jobs", "call after_hours.purge('manual')"),
    ):
        hostile.execute(f"set session authorization {role}")
        hostile.execute(call)
        hostile.execute("reset session authorization")
    assert won(hostile) == []
    has_run = value(hostile, "select is_called from hostile.ran")
    # announcing changes no row of the application
    assert has_run == (table != "after_hours_sessions" and kind in RUNS_ON_DELETE), "the code must have run"
    assert value(hostile, "select count(*) from after_hours.events where session_id = %s", over) == 1
    assert value(hostile, "select count(*) from public.after_hours_matches where id = %s", held) == 1
    assert value(hostile, "select count(*) from public.after_hours_matches where id = %s", match) == 0
    assert value(hostile, "select bool_and(ok) from after_hours.verify_evidence()")


@pytest.mark.parametrize("setting", ["search_path", "row_security"])
def test_a_trigger_cannot_change_where_our_routines_look(hostile: Connection, setting: str) -> None:
    """An ordinary SET in a trigger outlives the function's own SET clause: the row is set aside, the setting undone."""
    match = make_match(hostile)
    new = "hostile, pg_catalog" if setting == "search_path" else "on"
    hostile.execute(
        "create function hostile.turn() returns trigger language plpgsql as "
        f"$$ begin perform set_config('{setting}', '{new}', false); return coalesce(new, old); end $$; "
        "alter function hostile.turn() owner to hostile_owner"
    )
    hostile.execute(
        "create trigger h before delete on public.after_hours_matches for each row execute function hostile.turn()"
    )
    before = value(hostile, f"show {setting}")
    hostile.execute("call after_hours.purge()")
    assert value(hostile, f"show {setting}") == before
    detail = value(hostile, "select detail from after_hours.not_purged where match_id = %s", match)
    assert "AH016" in detail or "search_path or row_security" in detail


SWAP = """
    set session authorization hostile_owner;
    alter table public.{t} rename to real_table;
    create function hostile.peek(anyelement) returns anyelement language plpgsql volatile as
    $$ begin perform hostile.attack(); return $1; end $$;
    create view public.{t} as select {columns} from public.real_table;
    grant select, update on public.{t} to after_hours_owner, after_hours_eraser;
    reset session authorization
"""
LOOKS = (
    ("after_hours_jobs", "select * from after_hours.announce_due()"),
    ("after_hours_jobs", "call after_hours.purge()"),
    ("after_hours_jobs", "call after_hours.housekeeping()"),
    ("after_hours_relay", "select * from after_hours.relay_events('aaaaaaaa-0')"),
    ("after_hours_relay", "select * from after_hours.relay_attach(array[gen_random_uuid()], array['aaaaaaaa-0'], array[now()])"),
    ("after_hours_relay", "select after_hours.relay_status()"),
    ("after_hours_relay", "select * from after_hours.relay_rescue()"),
    ("after_hours_push", "select * from after_hours.push_claim('n')"),
    *(
        ("after_hours_dba", query)
        for query in (
            "select * from after_hours.health", "select * from after_hours.doctor()", "select * from after_hours.upcoming",
            "select * from after_hours.backlog", "select * from after_hours.not_purged", "select * from after_hours.purge_preview()",
            "select * from after_hours.explain_match(gen_random_uuid())", "select * from after_hours.verify_evidence()",
            "select * from after_hours.deletion_receipt(gen_random_uuid())", "select * from after_hours.next_due()",
            "select after_hours.place_hold(gen_random_uuid(), 'report', 'x')", "select * from after_hours.list_gauges()",
            "select * from after_hours.unreached_warnings", "select * from after_hours.brake()",
        )
    ),
)  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_a_view_in_place_of_a_table_is_read_by_nobody(hostile: Connection, table: str) -> None:
    db = hostile
    make_match(db)
    session(db, "-1 second")
    columns = ", ".join(
        f"hostile.peek({row[0]}) as {row[0]}"
        for row in db.execute(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
            (f"public.{table}",),
        ).fetchall()
    )
    db.execute(SWAP.format(t=table, columns=columns))
    try:
        for role, query in LOOKS:
            db.execute(f"set session authorization {role}".encode())
            with suppress(psycopg.Error):
                db.execute(query.encode())
            db.execute("reset session authorization")
            assert not value(db, "select is_called from hostile.ran"), f"its functions ran in {query}"
        assert not value(db, "select ok from after_hours.health where check_name = 'access'")
        assert value(db, "select count(*) from public.real_table") > 0
    finally:
        db.execute(f"drop view public.{table}; alter table public.real_table rename to {table}")
    db.execute("set session authorization after_hours_jobs")
    db.execute("select * from after_hours.announce_due()")
    db.execute("reset session authorization")


def test_another_owner_is_named_and_announcing_goes_on(db: Connection) -> None:
    db.execute("create role new_owner nologin")
    try:
        db.execute("alter table public.after_hours_sessions owner to new_owner")
        session(db, "-1 second")
        assert value(db, "select expired from after_hours.announce_due()") == 1
        row = db.execute("select ok, detail from after_hours.health where check_name = 'access'").fetchall()[0]
        assert not row.ok
        assert "its owner was postgres, now it is new_owner" in row.detail
        db.execute("select * from after_hours.upcoming")
    finally:
        db.execute("alter table public.after_hours_sessions owner to postgres; drop role new_owner")


def test_a_child_of_a_table_stops_reading(db: Connection) -> None:
    db.execute("create table public.child () inherits (public.after_hours_sessions)")
    try:
        with pytest.raises(psycopg.Error, match="a table with children") as raised:
            db.execute("select after_hours.announce_due()")
        assert raised.value.sqlstate == "AH047"
    finally:
        db.execute("drop table public.child")
    db.execute("select after_hours.announce_due()")
