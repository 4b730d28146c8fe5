"""Rights are declared once (list_rights): nobody has more, nothing depends on PUBLIC, what was changed is named and mended."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.conftest import reset
from tests.helpers import REPO, find_tool
from tests.sql.purge_helpers import ids, make_match, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Connection, Instance


@pytest.fixture(scope="module")
def site(make_instance: Callable[..., Instance]) -> Instance:
    return make_instance("cluster")


@pytest.fixture
def own(site: Instance) -> Iterator[Connection]:
    """A superuser's connection to an installation of this file's own, which tests may damage: the next apply mends it."""
    site.alembic("upgrade", "head")
    site.stop_jobs()
    with site.connect() as db:
        reset(db)
        yield db


def missing(db: Connection) -> list[Any]:
    return db.execute("select object, missing, next_command from after_hours.list_missing()").fetchall()


@pytest.mark.parametrize(
    "statement",
    [
        "update public.after_hours_matches set user_a = gen_random_uuid()",
        "update public.after_hours_matches set created_at = now() - interval '1 year'",
        "update public.after_hours_messages set body = ''",
        "update public.after_hours_sessions set user_id = gen_random_uuid()",
        "delete from public.after_hours_messages",
        "truncate public.after_hours_sessions",
        "lock table public.after_hours_matches in exclusive mode",
        "create trigger t after insert on public.after_hours_matches for each row execute function suppress_redundant_updates_trigger()",
    ],
)
def test_the_application_writes_its_columns_and_nothing_else(
    db: Connection, connect: Callable[..., Connection], statement: str
) -> None:
    make_match(db)
    app = connect("after_hours_app")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
        app.execute(statement.encode())
    app.execute("update public.after_hours_matches set expires_at = expires_at, converted_to_match_id = null")
    app.execute("select from public.after_hours_matches for update")


def test_a_match_that_the_application_dates_back_stays(db: Connection, connect: Callable[..., Connection]) -> None:
    """Its user is under hold; the match is new, and its expiry is written as long past."""
    match = make_match(db, days=-1)
    db.execute("update public.after_hours_matches set created_at = now()")
    db.execute("select after_hours.place_user_hold(user_a, 'legal', 'a court') from public.after_hours_matches")
    app = connect("after_hours_app")
    app.execute("update public.after_hours_matches set expires_at = now() - interval '31 days'")
    db.execute("call after_hours.purge()")
    assert ids(db) == {match}


@pytest.mark.parametrize("role", ["jobs", "app", "relay", "push", "moderator", "dba", "eraser"])
def test_nobody_else_creates_anything_in_our_schema(
    db: Connection, connect: Callable[..., Connection], role: str
) -> None:
    with connect() as seat:
        seat.execute(f"set session authorization after_hours_{role}".encode())
        for statement in (
            "create function after_hours.announce_due(p text) returns int language sql as 'select 1'",
            "create view after_hours.mine as select 1",
            "create table after_hours.mine (i int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                seat.execute(statement.encode())


def test_what_default_privileges_give_is_taken_back(own: Connection, site: Instance) -> None:
    site.alembic("downgrade", "base")
    own.execute(
        "do $$ begin create role report_ro; exception when duplicate_object then null; end $$;"
        " alter default privileges grant all on tables to report_ro; alter default privileges grant all on sequences to report_ro;"
        " alter default privileges grant execute on functions to report_ro"
    )
    try:
        site.alembic("upgrade", "head")
        own.execute("drop table if exists public.after_hours_control; create table public.after_hours_control (i int)")
        assert value(own, "select has_table_privilege('report_ro', 'public.after_hours_control', 'delete')"), (
            "it can fail"
        )
        theirs = """
            select c.relname from pg_class as c cross join aclexplode(c.relacl) as x
            where c.relnamespace = 'after_hours'::regnamespace and x.grantee = 'report_ro'::regrole
            union all
            select p.proname from pg_proc as p cross join aclexplode(p.proacl) as x
            where p.pronamespace = 'after_hours'::regnamespace and x.grantee = 'report_ro'::regrole
        """
        assert own.execute(theirs.encode()).fetchall() == []
    finally:
        own.execute("alter default privileges revoke all on tables from report_ro")
        own.execute("alter default privileges revoke all on sequences from report_ro")
        own.execute("alter default privileges revoke execute on functions from report_ro")
        own.execute("drop owned by report_ro; drop table public.after_hours_control")
        own.execute("drop role report_ro")


def test_what_is_given_by_hand_is_named(own: Connection) -> None:
    own.execute("create role grafana; grant usage on schema after_hours to grafana")
    try:
        own.execute(
            "grant select on after_hours.lateness to grafana; grant delete on after_hours.evidence_chain to grafana"
        )
        named = "select subject, finding from after_hours.list_exposures() where not ok order by subject"
        assert [tuple(row) for row in own.execute(named).fetchall()] == [
            ("exposure of schema after_hours", "grafana: usage"),
            ("exposure of tables and views of after_hours", "grafana: delete, select"),
        ]
        drift = "select identity, drift from after_hours.sql_drift"
        assert [tuple(row) for row in own.execute(drift).fetchall()] == [
            ("after_hours.lateness", "owner, rights or comment changed by hand")
        ]
    finally:
        own.execute("drop owned by grafana; drop role grafana")


def test_a_hardening_script_stops_nothing(own: Connection, site: Instance) -> None:
    own.execute("revoke all on schema public from public; revoke all on database after_hours from public")
    try:
        assert missing(own) == []
        own.execute("grant pg_monitor to after_hours_jobs")
        for role in ("after_hours_jobs", "after_hours_app", "after_hours_relay", "after_hours_push"):
            with site.connect(role) as seat:
                if role == "after_hours_jobs":
                    seat.execute("select after_hours.announce_due()")
                    seat.execute("call after_hours.purge()")
                    seat.execute("call after_hours.housekeeping()")
                elif role == "after_hours_app":
                    seat.execute("select after_hours.start_session(gen_random_uuid())")
                elif role == "after_hours_relay":
                    seat.execute("select * from after_hours.relay_events(null)")
    finally:
        own.execute("grant usage on schema public to public; grant connect, temp on database after_hours to public")


def test_another_owner_is_named_and_mended(own: Connection, site: Instance) -> None:
    own.execute("reassign owned by after_hours_owner to postgres")
    objects = [row.object for row in missing(own)]
    assert "schema after_hours" in objects
    assert "table after_hours.events" in objects
    assert value(own, "select count(*) from after_hours.sql_drift where drift ~ '^owner'") > 100
    assert not value(own, "select ok from after_hours.health where check_name = 'sql_drift'")
    site.alembic("upgrade", "head")
    assert missing(own) == []
    assert own.execute("select * from after_hours.sql_drift").fetchall() == []


def test_a_right_that_was_taken_is_named_and_given_again(own: Connection, site: Instance) -> None:
    own.execute("revoke update on public.after_hours_matches from after_hours_app")
    own.execute("revoke select on public.after_hours_sessions from after_hours_owner")
    own.execute("revoke select on after_hours.holds from after_hours_moderator")
    assert {(row.object, row.missing) for row in missing(own)} == {
        ("public.after_hours_matches", "update (converted_to_match_id) for after_hours_app"),
        ("public.after_hours_matches", "update (expires_at) for after_hours_app"),
        ("public.after_hours_sessions", "select for after_hours_owner"),
        ("after_hours.holds", "select for after_hours_moderator"),
    }
    for row in missing(own):
        own.execute(row.next_command.encode())
    assert missing(own) == []
    own.execute("revoke update on public.after_hours_matches from after_hours_app")
    site.alembic("upgrade", "head")
    assert missing(own) == []


def test_a_dump_without_owners_and_privileges_is_mended_by_an_upgrade(own: Connection, site: Instance) -> None:
    """As restored by a superuser into a cluster that has never seen our roles: they are made, all is theirs again."""
    own.execute("select after_hours.place_user_hold(gen_random_uuid(), 'legal', 'a court')")
    dump = subprocess.run(
        [str(find_tool("pg_dump")), "--no-owner", "--no-privileges", "-N", "cron", site.dsn()], check=True, capture_output=True, text=True
    ).stdout  # fmt: skip
    tables = "public.after_hours_messages, public.after_hours_matches, public.after_hours_sessions"
    own.execute(f"drop schema after_hours cascade; drop table {tables}, public.after_hours_alembic_version".encode())
    for role in ("owner", "eraser", "jobs", "app", "relay", "push", "moderator", "dba"):
        own.execute(f"drop owned by after_hours_{role} cascade; drop role after_hours_{role}".encode())
    subprocess.run(
        [str(find_tool("psql")), "-X", "-q", site.dsn()], input=dump, check=True, capture_output=True, text=True
    )
    own.execute("update public.after_hours_alembic_version set version_num = version_num")
    site.alembic("upgrade", "head")
    assert missing(own) == []
    assert own.execute("select * from after_hours.sql_drift").fetchall() == []
    assert value(own, "select count(*) from after_hours.holds") == 1
    assert (
        value(own, "select pg_get_userbyid(proowner) from pg_proc where proname = 'delete_rows'")
        == "after_hours_eraser"
    )
    assert value(own, "select after_hours.is_copy()")


@pytest.mark.parametrize("loss", ["truncate", "drop table"])
def test_the_table_of_revisions_may_be_lost(own: Connection, site: Instance, loss: str) -> None:
    own.execute("create role anon nologin; grant all on public.after_hours_alembic_version to anon")
    try:
        assert "anon" in str(own.execute("select * from after_hours.list_exposures()").fetchall())
        own.execute("delete from after_hours.sql_objects")  # else there is nothing to apply
        site.alembic("upgrade", "head")
        assert not value(own, "select has_table_privilege('anon', 'public.after_hours_alembic_version', 'truncate')")
        revision = value(own, "select version_num from public.after_hours_alembic_version")
        own.execute(f"{loss} public.after_hours_alembic_version".encode())
        site.alembic("upgrade", "head")
        assert value(own, "select version_num from public.after_hours_alembic_version") == revision
        own.execute(f"{loss} public.after_hours_alembic_version".encode())
        site.alembic("downgrade", "base")
        assert value(own, "select to_regnamespace('after_hours')") is None
        result = subprocess.run(
            [sys.executable, "-m", "relay", "migrate", "--to", "base", "--yes"], cwd=REPO, capture_output=True, text=True,
            env={**os.environ, "AFTER_HOURS_DSN": site.dsn()},
        )  # fmt: skip
        assert (result.returncode, result.stdout) == (
            0,
            "nothing to remove: there is no schema after_hours in this database\n",
        )
    finally:
        site.alembic("upgrade", "head")
        own.execute("drop owned by anon; drop role anon")


def test_what_a_schema_tool_dropped_is_asked_for(own: Connection, site: Instance) -> None:
    own.execute("alter table public.after_hours_sessions drop column end_reason cascade")
    own.execute("drop index public.after_hours_sessions_deadline_idx, public.after_hours_matches_overdue_idx")
    result = subprocess.run(
        [sys.executable, "-m", "relay", "preflight"], cwd=REPO, capture_output=True, text=True,
        env={**os.environ, "AFTER_HOURS_DSN": site.dsn()},
    )  # fmt: skip
    statements = [line.strip() for line in result.stderr.splitlines() if "-- it was there" in line]
    assert len(statements) == 3, result.stderr
    for statement in statements:
        own.execute(statement.encode())
    site.alembic("upgrade", "head")
    assert missing(own) == []
    assert value(own, "select ok from after_hours.health where check_name = 'indexes'")


def test_a_check_that_its_owner_has_altered_is_not_run_with_our_rights(own: Connection, site: Instance) -> None:
    """The jobs' role owns some: as SECURITY INVOKER and with another path it would run as after_hours_owner."""
    own.execute(
        "set session authorization after_hours_jobs; alter function after_hours.check_jobs() security invoker;"
        " alter function after_hours.check_jobs() set search_path = public; reset session authorization"
    )
    row = own.execute("select ok, detail from after_hours.health where check_name = 'jobs'").fetchall()[0]
    assert (row.ok, row.detail) == (False, "is not run: after_hours.check_jobs() was altered by hand")
    assert "check_jobs" in str(own.execute("select * from after_hours.sql_drift").fetchall())
    site.alembic("upgrade", "head")
    row = own.execute("select detail from after_hours.health where check_name = 'jobs'").fetchall()[0]
    assert "altered" not in row.detail
