"""alembic and plain psql lead to one schema; back, forth, and nothing is lost (DESIGN 3)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.helpers import poll_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Instance

REPO = Path(__file__).resolve().parents[2]
CHANGES = sorted((REPO / "sql" / "changes").glob("*.sql"))
PREVIOUS, HEAD = (path.name[:4] for path in CHANGES[-2:])


class Migrated:
    """An instance of its own, without jobs that run, to install into and to take down."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def alembic(self, *arguments: str, check: bool = True, cwd: Path = REPO) -> subprocess.CompletedProcess[str]:
        return self.instance.alembic(*arguments, check=check, cwd=cwd)

    def psql(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.instance.dev("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *arguments, check=False)

    def query(self, query: str) -> list[Any]:
        with self.instance.connect() as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def schema(self) -> str:
        """Everything in the catalog that pg_dump knows (comments, owners, grants) and the jobs of pg_cron."""
        dump = subprocess.run(
            ["pg_dump", "--schema-only", "--exclude-table=public.*alembic_version", "-n", "public", "-n", "after_hours",
             "--dbname", self.instance.dsn()],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        jobs = self.query("select jobname, schedule, command, username, active from cron.job order by jobname")
        lines = [line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict", "-- Dumped"))]
        return "\n".join([*lines, *map(str, jobs)])


DROP_TABLES = "; ".join(
    f"drop table if exists public.after_hours_{name} cascade" for name in ("messages", "matches", "sessions")
)


@pytest.fixture(scope="module")
def shared(make_instance: Callable[..., Instance]) -> Migrated:
    return Migrated(make_instance("cluster"))


@pytest.fixture
def empty(shared: Migrated) -> Iterator[Migrated]:
    """A database without After Hours: no schema, no tables of the application."""
    shared.alembic("downgrade", "base")
    shared.query(DROP_TABLES + "; drop schema if exists after_hours_kept cascade")
    yield shared
    shared.query(
        "drop schema if exists after_hours cascade; drop schema if exists after_hours_kept cascade; drop table if exists public.after_hours_alembic_version"
    )
    shared.query(DROP_TABLES)
    shared.alembic("upgrade", "head")


def test_plain_psql_reaches_the_same_schema(empty: Migrated) -> None:
    empty.alembic("upgrade", "head")
    by_alembic = empty.schema()
    empty.alembic("downgrade", "base")
    for change in CHANGES:
        one_transaction = [] if "concurrently" in change.read_text() else ["--single-transaction"]
        result = empty.psql(*one_transaction, "-f", str(change))
        assert result.returncode == 0, result.stderr
    result = empty.psql("--single-transaction", "-f", str(REPO / "sql" / "install.sql"))
    assert result.returncode == 0, result.stderr
    assert empty.schema() == by_alembic
    assert "COMMENT ON FUNCTION after_hours.announce_due" in by_alembic, "the dump must see what it compares"


def test_upgrade_again_changes_nothing_and_needs_no_lock(empty: Migrated) -> None:
    empty.alembic("upgrade", "head")
    before = empty.schema()
    with empty.instance.connect(autocommit=False) as neighbour:
        for table in neighbour.execute(
            "select oid::regclass::text as name from pg_class where relkind = 'r' and"
            " (relnamespace = 'after_hours'::regnamespace or relname like 'after_hours_%')"
        ).fetchall():
            neighbour.execute(f"lock table {table.name} in exclusive mode".encode())  # leaves ACCESS SHARE to others
        neighbour.execute("select from after_hours.visible_messages")
        empty.alembic("upgrade", "head")
    assert empty.schema() == before
    assert empty.query("select count(*) from after_hours.sql_ledger") == [(1,)]


def test_upgrade_after_the_ledger_is_lost_makes_the_same_again(empty: Migrated) -> None:
    empty.alembic("upgrade", "head")
    before = empty.schema()
    ledger = "select revision, tree_hash, sql_text from after_hours.sql_ledger"
    (first,) = empty.query(ledger)
    empty.query("delete from after_hours.sql_ledger")
    empty.alembic("upgrade", "head")
    assert empty.schema() == before
    assert empty.query(ledger) == [first]


def test_what_uses_the_objects_of_others_is_refused(empty: Migrated) -> None:
    empty.alembic("upgrade", "head")
    empty.query(
        "create function public.decoy(numeric, interval) returns interval language sql as 'select $2';"
        " create operator public.* (leftarg = numeric, rightarg = interval, function = public.decoy);"
        " alter table after_hours.settings alter column session_length set default 3.0 operator(public.*) interval '1 minute'"
    )
    empty.query("delete from after_hours.sql_ledger")
    result = empty.alembic("upgrade", "head", check=False)
    assert "default value for column session_length of table after_hours.settings uses" in result.stderr + result.stdout
    assert "(AH046)" in result.stderr + result.stdout
    empty.query("alter table after_hours.settings alter column session_length drop default")
    empty.query("drop operator public.* (numeric, interval); drop function public.decoy")


def test_upgrade_makes_only_what_differs(empty: Migrated) -> None:
    empty.alembic("upgrade", "head")
    before = empty.schema()
    empty.query(
        "create or replace function after_hours.iso_utc(p_instant timestamptz) returns text language sql stable as 'select null'"
    )
    empty.query("comment on view after_hours.health is 'mine'; alter view after_hours.upcoming owner to postgres")
    empty.query(
        "drop view after_hours.lateness; create function after_hours.stray() returns int language sql as 'select 1'; alter function after_hours.stray() owner to after_hours_owner"
    )
    empty.alembic("upgrade", "head")
    assert empty.schema() == before
    made = "select proname from pg_proc where xmin = (select xmin from pg_proc where proname = 'iso_utc')"
    assert empty.query(made) == [("iso_utc",)]


WRITER = """
    select after_hours.start_session(gen_random_uuid());
    insert into public.after_hours_matches (user_a, user_b, expires_at)
    values (gen_random_uuid(), gen_random_uuid(), now() + interval '1 hour');
    select count(*) from after_hours.visible_messages
"""


def test_an_upgrade_behind_an_open_reader_names_it_and_keeps_nobody_waiting(empty: Migrated) -> None:
    """Replacing a view waits for its readers, and everybody else waits behind the upgrade."""
    empty.alembic("upgrade", "head")
    empty.query("comment on view after_hours.visible_messages is 'mine'; delete from after_hours.sql_ledger")
    rounds: list[float] = []
    is_over = threading.Event()

    def write() -> None:
        with empty.instance.connect() as application:
            while not is_over.is_set():
                began = time.monotonic()
                application.execute(WRITER.encode())
                rounds.append(time.monotonic() - began)

    with ThreadPoolExecutor() as threads, empty.instance.connect(autocommit=False) as reader:
        pid = reader.info.backend_pid
        reader.execute("select from after_hours.visible_messages")
        writing = threads.submit(write)
        refused = empty.alembic("-x", "wait=2", "upgrade", "head", check=False)
        upgrade = threads.submit(empty.alembic, "upgrade", "head")
        time.sleep(3)
        assert not upgrade.done()
        reader.rollback()
        upgrade.result()
        is_over.set()
        writing.result()
    assert refused.returncode != 0
    assert f"waiting for pid {pid} (role postgres" in refused.stderr
    assert f"select pg_terminate_backend({pid});" in refused.stdout
    assert max(rounds) < 1, "one attempt holds its locks for 0.2 s; 5 s once"
    assert empty.query("select obj_description('after_hours.visible_messages'::regclass)") != [("mine",)]


def test_one_step_back_and_forth(empty: Migrated) -> None:
    empty.alembic("upgrade", "head")
    before = empty.schema()
    assert f"{HEAD} (head)" in empty.alembic("current").stdout
    for revision in reversed([path.name[:4] for path in CHANGES[:-1]]):
        empty.alembic("downgrade", "-1")
        assert revision in empty.alembic("current").stdout
        assert empty.query("select ok from after_hours.health where check_name = 'sql_drift'") == [(True,)]
    empty.alembic("upgrade", "head")
    assert empty.schema() == before
    assert "0001 -> 0002" in empty.alembic("history").stdout


def test_the_applications_own_alembic_is_left_alone(empty: Migrated) -> None:
    """With Alembic's defaults both would share public.alembic_version, and each would stop the other's next upgrade."""
    empty.query(
        "create table public.alembic_version (version_num varchar(32)); insert into alembic_version values ('0002')"
    )
    try:
        empty.alembic("upgrade", "head")
        empty.alembic("upgrade", "head")
        assert empty.query("select version_num from public.alembic_version") == [("0002",)]
        assert f"{HEAD} (head)" in empty.alembic("current").stdout
        empty.alembic("downgrade", "base")
        assert empty.query("select version_num from public.alembic_version") == [("0002",)]
    finally:
        empty.query("drop table public.alembic_version")


def test_one_step_back_brings_the_stored_text(empty: Migrated) -> None:
    empty.alembic("upgrade", "head")
    stored = OTHER_ISO_UTC.format("old")
    empty.query(
        f"insert into after_hours.sql_ledger (revision, tree_hash, sql_text) values ('{PREVIOUS}', 'x', $sql${stored}$sql$)"
    )
    empty.alembic("downgrade", "-1")
    assert empty.query("select after_hours.iso_utc(now())") == [("old",)]
    empty.alembic("upgrade", "head")
    assert empty.query("select after_hours.iso_utc('2026-11-24 03:00Z')") == [("2026-11-24T03:00:00.000Z",)]


ROLES = ("owner", "eraser", "jobs", "app", "relay", "push", "moderator", "dba")
STRANGER = "create role after_hours_stranger login"


@pytest.mark.parametrize(
    "stranger",
    [
        STRANGER,
        f"{STRANGER} createrole createdb; grant pg_monitor to after_hours_stranger with admin option",
        f"{STRANGER} createrole createdb",
    ],
    ids=["no rights", "administrator of a managed server", "CREATEROLE alone"],
)
def test_a_role_that_is_no_superuser_is_told_once_what_to_have_run_and_then_migrates(
    empty: Migrated, stranger: str
) -> None:
    """What it makes is the same schema, tables of the application its own."""
    empty.query("drop table if exists public.after_hours_alembic_version")
    for role in ROLES:  # nothing is left of an earlier installation
        empty.query(f"drop owned by after_hours_{role} cascade; drop role after_hours_{role}")
    empty.query("drop role if exists after_hours_stranger")
    empty.query(stranger)
    environment = {**os.environ, "AFTER_HOURS_DSN": empty.instance.dsn("after_hours_stranger")}
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    try:
        result = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=60)
        said = result.stdout + result.stderr
        assert "(AH032)" in said, said
        assert empty.query("select to_regnamespace('after_hours')") == [(None,)]
        assert "createrole" in stranger or "create role after_hours_owner nologin;" in said
        pasted = said.split("in this database:\n")[1].split("\nHINT")[0]
        empty.query(pasted)
        result = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, pasted + result.stdout + result.stderr
        owners = empty.query(
            "select distinct pg_get_userbyid(relowner) from pg_class where relname like 'after\\_hours\\_%s' and relkind = 'r'"
        )
        assert owners == [("after_hours_stranger",)]
        assert (
            empty.query(
                "select check_name from after_hours.health where not ok and check_name in ('jobs', 'sql_drift')"
            )
            == []
        )
        result = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
        command[-2:] = ["downgrade", "base"]
        result = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
    finally:
        empty.query("drop schema if exists after_hours cascade")
        empty.query("drop owned by after_hours_stranger cascade; drop role after_hours_stranger")
        empty.query(
            "create table if not exists public.after_hours_alembic_version (version_num varchar(32) primary key)"
        )


@pytest.mark.parametrize("target", [("upgrade", "0002"), ("upgrade", "+1"), ("downgrade", "0001"), ("downgrade", "-2")])
def test_other_targets_are_refused(shared: Migrated, target: tuple[str, str]) -> None:
    result = shared.alembic(*target, check=False)
    assert result.returncode != 0
    assert "Use: upgrade head, downgrade -1 or downgrade base." in result.stderr + result.stdout


def test_base_leaves_rows_roles_and_evidence(empty: Migrated) -> None:
    empty.alembic("upgrade", "head")
    empty.query("select after_hours.start_session(gen_random_uuid())")
    empty.query(
        "insert into public.after_hours_matches (id, user_a, user_b, expires_at) "
        "values ('00000000-0000-4000-8000-000000000001', gen_random_uuid(), gen_random_uuid(), now())"
    )
    empty.query(
        "insert into after_hours.holds (match_id, kind, reason, placed_by) "
        "values ('00000000-0000-4000-8000-000000000001', 'report', 'test', 'test')"
    )
    result = empty.alembic("downgrade", "base")
    assert "public.after_hours_sessions holds rows and stays" in result.stderr
    assert empty.query("select count(*) from public.after_hours_sessions") == [(1,)]
    assert empty.query("select to_regclass('public.after_hours_messages')") == [(None,)], "ours and empty"
    assert empty.query("select to_regnamespace('after_hours')") == [(None,)]
    assert empty.query("select count(*) from cron.job where jobname like 'after_hours%'") == [(0,)]
    assert empty.query("select count(*) from pg_roles where rolname like 'after_hours_%'")[0][0] >= 6
    assert empty.query("select reason from after_hours_kept.holds") == [("test",)]
    empty.alembic("upgrade", "head")
    assert empty.query("select count(*) from public.after_hours_sessions") == [(1,)]


PROMISES = """
    select (select count(*) from after_hours.holds) as a, (select count(*) from after_hours.hold_log) as b,
        (select count(*) from after_hours.user_blocks) as c, (select retention::text from after_hours.settings) as d,
        (select count(*) from after_hours.settings_log) as e,
        (select json_agg(r order by id) from after_hours.purge_runs as r)::text as f,
        (select json_agg(b order by seq) from after_hours.purge_batches as b)::text as g,
        (select json_agg(t order by seq, match_id) from after_hours.purged_matches as t)::text as h,
        (select row(c.*)::text from after_hours.evidence_chain as c) as i
"""
LIFE = """
    insert into public.after_hours_matches (user_a, user_b, created_at, expires_at)
    select gen_random_uuid(), gen_random_uuid(), now() - interval '200 days', now() - interval '100 days' from generate_series(1, 5);
    select after_hours.place_hold(m.id, 'legal', 'a court') from public.after_hours_matches as m limit 1;
    select after_hours.place_user_hold(gen_random_uuid(), 'legal', 'a court');
    select after_hours.release_hold(2, 'over');
    select after_hours.block_user(gen_random_uuid(), 'infinity', 'a ticket');
    update after_hours.settings set retention = '90 days', announce_batch = 77
"""


def live(empty: Migrated) -> None:
    empty.alembic("upgrade", "head")
    empty.query(LIFE)
    with empty.instance.connect() as db:
        db.execute("call after_hours.purge()")


def test_a_second_installation_goes_on_with_holds_and_chain(empty: Migrated) -> None:
    live(empty)
    before = empty.query(PROMISES)
    schema = empty.schema()
    for _ in range(2):
        result = empty.alembic("downgrade", "base")
        assert "are kept in schema after_hours_kept" in result.stderr
        with empty.instance.connect() as db:
            db.execute("set role after_hours_dba")
            assert db.execute("select count(*) from after_hours_kept.holds").fetchall() == [(1,)]
        result = empty.alembic("upgrade", "head")
        assert "are back from schema after_hours_kept" in result.stderr
        assert empty.query(PROMISES) == before
        assert empty.schema() == schema
        assert empty.query("select to_regnamespace('after_hours_kept')") == [(None,)]
    empty.query("update public.after_hours_matches set expires_at = expires_at - interval '1 second'")
    with empty.instance.connect() as db:
        db.execute(
            "insert into public.after_hours_matches (user_a, user_b, created_at, expires_at)"
            " values (gen_random_uuid(), gen_random_uuid(), now() - interval '200 days', now() - interval '100 days')"
        )
        db.execute("call after_hours.purge()")
    assert empty.query("select matches, status from after_hours.purge_runs order by id") == [
        (4, "succeeded"),
        (1, "succeeded"),
    ]
    assert empty.query("select count(*) from after_hours.verify_evidence() where not ok") == [(0,)]
    assert empty.query("select count(*) from public.after_hours_matches") == [(1,)], "the held one"
    assert empty.query("select announce_since > now() - interval '1 minute' from after_hours.settings") == [(True,)]
    place = "select id from after_hours.place_user_hold(gen_random_uuid(), 'legal', 'another')"
    assert empty.query(place) == [(3,)]


def test_kept_evidence_that_was_changed_pauses_the_purge(empty: Migrated) -> None:
    live(empty)
    empty.alembic("downgrade", "base")
    empty.query("update after_hours_kept.purge_batches set messages = 99")
    result = empty.alembic("upgrade", "head")
    assert "the purge is paused" in result.stderr
    assert empty.query("select job, until::text from after_hours.pauses") == [("purge", "infinity")]
    empty.query("select * from after_hours.health")
    assert empty.query("select after_hours.resume_job('purge')") == [(True,)]


def test_a_hold_on_a_match_that_is_gone_goes_to_the_log(empty: Migrated) -> None:
    live(empty)
    empty.alembic("downgrade", "base")
    empty.query("delete from public.after_hours_matches")
    empty.alembic("upgrade", "head")
    assert empty.query("select count(*) from after_hours.holds") == [(0,)]
    assert empty.query("select release_reason from after_hours.hold_log order by id limit 1") == [
        ("the match was deleted while After Hours was not installed",)
    ]


OTHER_ISO_UTC = (
    "create or replace function after_hours.iso_utc(p_instant timestamptz) "
    "returns text language sql as $$ select '{}' $$;"
)

ADOPTED = """
    create table public.after_hours_sessions (
        id uuid primary key, user_id uuid not null, started_at timestamptz not null,
        expires_at timestamptz not null, mood text);
    create table public.after_hours_matches (
        id uuid primary key, user_a uuid, user_b uuid, created_at timestamptz, expires_at timestamptz not null,
        converted_to_match_id uuid);
    create table public.after_hours_messages (
        id bigint primary key, match_id uuid not null, sender_id uuid, body text, created_at timestamptz);
    insert into public.after_hours_sessions values
        (gen_random_uuid(), gen_random_uuid(), now() - interval '2 days', now() - interval '1 day', 'fine');
    insert into public.after_hours_messages values (1, gen_random_uuid(), null, 'orphan', now())
"""


def test_existing_tables_are_adopted_and_given_back(empty: Migrated) -> None:
    empty.query(ADOPTED)
    empty.query("create index on public.after_hours_messages (match_id)")
    result = empty.alembic("upgrade", "head")
    assert "adopted public.after_hours_sessions: added column ended_at" in result.stderr
    assert "stays NOT VALID" in result.stderr, "there is an orphan"
    done = empty.query("select * from after_hours.announce_due()")[0]
    assert (done.expired, done.expiring) == (0, 0), "an adopted past is never announced"
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        empty.query("insert into public.after_hours_messages values (2, gen_random_uuid(), null, 'late', now())")
    empty.alembic("downgrade", "base")
    columns = empty.query(
        "select string_agg(attname, ' ' order by attnum) from pg_attribute "
        "where attrelid = 'public.after_hours_sessions'::regclass and attnum > 0 and not attisdropped"
    )
    assert columns == [("id user_id started_at expires_at mood",)]
    assert empty.query("select to_regclass('public.after_hours_matches') is not null") == [(True,)], "not ours to drop"


def test_a_partition_that_is_rewritten_is_counted(empty: Migrated) -> None:
    empty.query(ADOPTED.replace("id bigint primary key", "id bigint").replace(
        "created_at timestamptz);\n    insert", "created_at timestamptz) partition by hash (match_id);\n"
        "    create table public.p0 partition of public.after_hours_messages for values with (modulus 1, remainder 0);\n"
        "    insert",
    ))  # fmt: skip
    empty.query(
        "insert into public.after_hours_matches (id, expires_at) select match_id, now() - interval '31 days'"
        " from public.after_hours_messages; create index on public.after_hours_messages (match_id);"
        " alter table public.after_hours_messages add foreign key (match_id) references public.after_hours_matches (id)"
    )
    empty.alembic("upgrade", "head")
    preview = "select messages from after_hours.purge_preview() where section = 'due'"
    with empty.instance.connect(autocommit=False) as ddl, empty.instance.connect() as reader:
        ddl.execute("alter table public.p0 set unlogged")
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(lambda: reader.execute(preview.encode()).fetchone())
            waiting = (
                f"select 1 from pg_stat_activity where wait_event_type = 'Lock' and pid = {reader.info.backend_pid}"
            )
            try:
                poll_until(lambda: answer.done() or empty.query(waiting))
            finally:
                ddl.commit()
            assert answer.result() == (1,)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        ("select 1", "create index concurrently on public.after_hours_messages (match_id);"),
        (
            "alter table public.after_hours_sessions alter column expires_at type timestamp",
            "public.after_hours_sessions.expires_at is timestamp without time zone",
        ),
        (
            "alter table public.after_hours_sessions alter column expires_at type timestamptz(0)",
            "alter table public.after_hours_sessions alter column expires_at type timestamptz;",
        ),
        (
            "alter table public.after_hours_sessions alter column started_at drop not null",
            "alter table public.after_hours_sessions alter column started_at set not null;",
        ),
        (
            "alter table public.after_hours_matches drop constraint after_hours_matches_pkey",
            "alter table public.after_hours_matches add primary key (id);",
        ),
        (
            "alter table public.after_hours_sessions rename to s; "
            "create view public.after_hours_sessions as select * from public.s",
            "public.after_hours_sessions must be a plain table, it is a view",
        ),
        (
            "drop table public.after_hours_sessions; create table public.after_hours_sessions (id uuid not null, "
            "user_id uuid not null, started_at timestamptz not null, expires_at timestamptz not null) "
            "partition by range (expires_at); create table public.s partition of public.after_hours_sessions default; "
            "insert into public.after_hours_sessions values (gen_random_uuid(), gen_random_uuid(), now(), now())",
            "public.after_hours_sessions must be a plain table, it is partitioned",
        ),
        (
            "create table public.child () inherits (public.after_hours_sessions)",
            "alter table public.child no inherit public.after_hours_sessions;",
        ),
        (
            "alter table public.after_hours_matches drop column user_b",
            "public.after_hours_matches.user_b is missing",
        ),
    ],
)
def test_a_shape_that_cant_be_used_is_refused_before_anything_changes(
    empty: Migrated, spoil: str, complaint: str
) -> None:
    empty.query(ADOPTED)
    empty.query(spoil)
    result = empty.alembic("upgrade", "head", check=False)
    assert complaint in result.stdout + result.stderr
    assert empty.query("select to_regnamespace('after_hours')") == [(None,)]
    assert empty.query("select count(*) from public.after_hours_sessions") == [(1,)]
    if "view" in complaint:
        empty.query("drop view public.after_hours_sessions; drop table public.s")


def test_sql_prints_everything(shared: Migrated) -> None:
    printed = shared.alembic("upgrade", "head", "--sql").stdout
    for part in (
        "create schema after_hours",
        "create index concurrently",
        "procedure after_hours.announce_loop",
        "sql_ledger",
    ):
        assert part in printed


@pytest.mark.parametrize("rollback", ["off", "on"])
def test_printed_sql_installs(empty: Migrated, tmp_path: Path, rollback: str) -> None:
    """Also with a savepoint before each statement, as a psqlrc may have it."""
    empty.alembic("upgrade", "head")
    by_alembic = empty.schema()
    empty.alembic("downgrade", "base")
    empty.query("drop table public.after_hours_alembic_version")
    script = tmp_path / "all.sql"
    script.write_text(empty.alembic("upgrade", "head", "--sql").stdout)
    result = empty.psql("-v", f"ON_ERROR_ROLLBACK={rollback}", "-f", str(script))
    assert result.returncode == 0, result.stderr
    assert empty.schema() == by_alembic
    assert f"{HEAD} (head)" in empty.alembic("current").stdout


def test_an_edited_change_is_refused(shared: Migrated, tmp_path: Path) -> None:
    for part in ("alembic", "sql"):
        shutil.copytree(REPO / part, tmp_path / part)
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    with (tmp_path / "sql" / "changes" / "0002_indexes.sql").open("a") as change:
        change.write("-- a second thought\n")
    result = shared.alembic("upgrade", "head", "--sql", check=False, cwd=tmp_path)
    assert "was edited after its revision was written" in result.stderr + result.stdout


def test_a_stray_routine_is_swept_away_by_the_next_apply(shared: Migrated) -> None:
    shared.query(
        "create function after_hours.stray() returns int language sql as 'select 1'; alter function after_hours.stray() owner to after_hours_owner"
    )
    shared.query("alter function after_hours.stray() owner to after_hours_owner")
    assert shared.query("select drift from after_hours.sql_drift") == [("not from sql/",)]
    assert "dropped routine after_hours.stray()" in shared.alembic("upgrade", "head").stderr
    shared.query("create function after_hours.theirs() returns int language sql as 'select 1'")
    assert "after_hours.theirs() belongs to postgres" in shared.alembic("upgrade", "head").stderr
    shared.query("drop function after_hours.theirs()")
    assert shared.query("select drift from after_hours.sql_drift") == []


def test_drift_shows_a_routine_edited_by_hand(shared: Migrated) -> None:
    shared.query(OTHER_ISO_UTC.format("x"))
    assert shared.query("select identity, drift from after_hours.sql_drift") == [
        ("after_hours.iso_utc(timestamp with time zone)", "edited by hand")
    ]
    shared.alembic("upgrade", "head")
    assert shared.query("select drift from after_hours.sql_drift") == []


def test_jobs_are_installed_once_and_followed(shared: Migrated) -> None:
    # tick on pg_cron 1.4 with background workers
    ((mode,),) = shared.query("select mode from after_hours.announce_mode()")
    assert {row.action for row in shared.query("select * from after_hours.install_jobs()")} == {"unchanged", mode}
    shared.query("update cron.job set schedule = '0 4 * * *' where jobname like 'after_hours_purge@%'")
    shared.query("delete from cron.job where jobname like 'after_hours_housekeeping@%'")
    done = {row.job: row.action for row in shared.query("select * from after_hours.install_jobs()")}
    assert done["purge"] == "changed"
    assert done["housekeeping"] == "created"
    assert done["announce"] == "unchanged"
    shared.query("update cron.job set database = 'postgres' where jobname like 'after_hours_purge@%'")
    with pytest.raises(psycopg.Error) as caught:
        shared.query("select * from after_hours.install_jobs()")
    assert caught.value.sqlstate == "AH036"
    shared.query("update cron.job set database = current_database() where jobname like 'after_hours_purge@%'")


def test_an_apply_beside_a_busy_announcer_waits_and_does_not_deadlock(empty: Migrated) -> None:
    """A pass holds emitter and inserts into events: an apply must not lock events first (seen: a deadlock each time)."""
    empty.alembic("upgrade", "head")
    is_over = threading.Event()

    def announce() -> None:
        with empty.instance.connect("after_hours_jobs") as jobs, empty.instance.connect() as db:
            while not is_over.is_set():
                db.execute(
                    "insert into public.after_hours_sessions (user_id, started_at, expires_at) "
                    "values (gen_random_uuid(), now() - interval '1 hour', clock_timestamp())"
                )
                jobs.execute("select * from after_hours.announce_due()")

    busy = threading.Thread(target=announce)
    busy.start()
    try:
        for _ in range(3):
            empty.query("delete from after_hours.sql_ledger")  # everything is made again
            empty.alembic("upgrade", "head")
    finally:
        is_over.set()
        busy.join()


def test_three_upgrades_at_once_run_one_after_the_other(empty: Migrated) -> None:
    """As the containers of one deployment start them; also the first, which finds no table that could be locked."""
    for _ in range(2):
        with ThreadPoolExecutor() as threads:
            done = list(threads.map(lambda _: empty.alembic("upgrade", "head", check=False), range(3)))
        assert [each.returncode for each in done] == [0, 0, 0], done
        assert empty.query("select count(*) from after_hours.sql_ledger") == [(1,)], "the others found nothing to do"
        empty.query("delete from after_hours.sql_ledger")
    assert empty.query("select ok from after_hours.health where check_name = 'sql_drift'") == [(True,)]


def test_an_upgrade_says_which_other_one_it_waits_for(empty: Migrated) -> None:
    with ThreadPoolExecutor() as threads, empty.instance.connect(autocommit=False) as other:
        pid = other.info.backend_pid
        other.execute("select pg_advisory_xact_lock(716253841)")
        upgrade = threads.submit(empty.alembic, "upgrade", "head")
        waiting = "select pid from pg_stat_activity where application_name = 'alembic' and query like '%advisory%'"
        poll_until(lambda: empty.query(waiting))
        time.sleep(1)  # its transactions are short: it asks each 0.2 s
        assert not upgrade.done()
        other.rollback()
    assert f"waiting for another migration: pid {pid}," in upgrade.result().stderr


KILLER = """
    create sequence public.test_statements;
    create function public.test_kill() returns event_trigger language plpgsql as $$ begin
        if nextval('public.test_statements') = {nth} then perform pg_terminate_backend(pg_backend_pid()); end if;
    end $$;
    create event trigger test_kill on ddl_command_end execute function public.test_kill()
"""
UNDO_KILLER = "drop event trigger if exists test_kill; drop function if exists public.test_kill(); drop sequence if exists public.test_statements"


def kill_upgrade(migrated: Migrated, nth: int) -> tuple[int, bool]:
    """An upgrade whose backend ends after its n-th DDL statement; how many there were, and whether it was killed."""
    with migrated.instance.connect() as db:
        db.execute(KILLER.format(nth=nth).encode())
        try:
            done = migrated.alembic("upgrade", "head", check=False)
            row = db.execute("select last_value from public.test_statements").fetchone()
        finally:
            db.execute(UNDO_KILLER)
    assert row is not None
    return row[0], done.returncode != 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("start", ["nothing", "the revision before"])
def test_an_upgrade_that_is_killed_leaves_what_works_and_can_be_repeated(empty: Migrated, start: str) -> None:
    """Each revision is a transaction, and so are all routines together: between two of them the older routines run."""

    def begin() -> None:
        if start == "nothing":
            empty.alembic("downgrade", "base")
        else:
            empty.alembic("downgrade", "-1")
            empty.query("delete from after_hours.sql_ledger")  # the routines are made again

    empty.alembic("upgrade", "head")
    after = empty.schema()
    begin()
    statements, was_killed = kill_upgrade(empty, 0)
    assert not was_killed
    assert empty.schema() == after
    # in the first revision, at its end, in the indexes, in the routines; all of them were tried once
    for nth in (20, statements // 10, statements // 2) if start == "nothing" else (1, statements):
        begin()
        seen, was_killed = kill_upgrade(empty, nth)
        assert (seen, was_killed) == (nth, True)
        if empty.query("select to_regclass('after_hours.health') is not null")[0][0]:
            assert empty.query("select check_name from after_hours.health where detail like 'can''t be checked%'") == []
            empty.query("select * from after_hours.announce_due()")
        empty.alembic("upgrade", "head")
        assert empty.schema() == after, f"repeated after statement {nth} of {statements}"
