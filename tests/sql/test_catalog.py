"""The catalog is the manual: every routine is commented, pinned, owned and granted; every error code is listed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

Connection = psycopg.Connection[Any]

SQL = Path(__file__).resolve().parents[2] / "sql"
FILES = sorted(path for path in SQL.rglob("*.sql") if "psql" not in path.parts)
NOT_OBJECTS = {"changes", "psql", "sql"}  # folders whose files make no routine or view
OBJECTS = sorted(
    path for path in FILES if path.parent.name not in NOT_OBJECTS and path.name not in {"plan.sql", "schedule.sql"}
)

ROUTINES = """
    select p.oid::regprocedure::text as name, p.prokind = 'p' as is_procedure, p.provolatile, p.prosecdef, p.prosrc,
        coalesce(p.proconfig, '{}') as config, pg_get_userbyid(p.proowner) as owner,
        obj_description(p.oid, 'pg_proc') as comment,
        array(select a.grantee::regrole::text from aclexplode(p.proacl) as a where a.grantee <> p.proowner) as grantees
    from pg_proc as p
    where p.pronamespace = 'after_hours'::regnamespace
    order by 1
"""


def routines(db: Connection) -> list[Any]:
    found = db.execute(ROUTINES).fetchall()
    assert len(found) > 40, "the query must see them"
    return found


def access(routine: Any) -> str:
    """The header line that says who may execute it, apart from the two roles without login."""
    roles = sorted({*routine.grantees, routine.owner} - {"after_hours_owner", "after_hours_eraser"})
    return f"-- Access:  {', '.join(roles) or 'internal'}.\n"


def test_every_routine_is_commented_pinned_owned_and_not_public(db: Connection) -> None:
    faults = []
    for routine in routines(db):
        wanted = {"after_hours_owner", "after_hours_jobs", "after_hours_eraser"}
        commits = routine.is_procedure and re.search(r"\bcommit;", routine.prosrc)
        checks = {
            "has no comment": not routine.comment,
            "comment is too short to say errors, units or source": len(routine.comment or "") < 40,
            "owner": routine.owner not in wanted,
            "may be executed by PUBLIC": "-" in routine.grantees,
            "search_path is not fixed": "search_path=pg_catalog, pg_temp" not in routine.config and not commits,
            "commits but does not set its search_path": commits
            and "set local search_path = pg_catalog, pg_temp;" not in routine.prosrc,
            "has no header in its body": "-- Purpose:" not in routine.prosrc or "-- Locks:" not in routine.prosrc,
            "header: Access is not what the catalog says": access(routine) not in routine.prosrc,
            "reads the application's tables with row security on": routine.prosecdef
            and re.search(r"(from|join|update|into)\s+public\.after_hours_", routine.prosrc)
            and "row_security=off" not in routine.config,
        }
        faults += [f"{routine.name}: {fault}" for fault, is_so in checks.items() if is_so]
    assert faults == []


def test_every_file_states_volatility(db: Connection) -> None:
    faults = [
        path.name
        for path in OBJECTS
        if "create or replace function" in (text := path.read_text())
        and not re.search(r"^(volatile|stable|immutable)$", text, re.M)
    ]
    assert faults == []


def test_one_object_per_file_named_after_it() -> None:
    faults = []
    for path in OBJECTS:
        created = re.findall(
            r"^create (?:or replace )?(?:function|procedure|view) after_hours\.(\w+)", path.read_text(), re.M
        )
        if created != [path.stem]:
            faults.append(f"{path.relative_to(SQL)} creates {created}")
    assert faults == []


def test_every_file_is_in_the_table_of_contents_once() -> None:
    contents = re.findall(r"^\\ir (\S+)$", (SQL / "install.sql").read_text(), re.M)
    on_disk = {str(path.relative_to(SQL)) for path in FILES if path.parent.name not in {"changes", "sql"}}
    top = {"grants.sql", "comments.sql", "prune.sql", "kept.sql", "owners.sql"}
    assert sorted(contents) == sorted(on_disk | top)


@pytest.mark.parametrize("kind", ["r", "v"])
def test_every_table_and_view_is_commented(db: Connection, kind: str) -> None:
    rows = db.execute(
        "select c.relname from pg_class as c where c.relnamespace = 'after_hours'::regnamespace and c.relkind = %s "
        "and obj_description(c.oid, 'pg_class') is null",
        (kind,),
    ).fetchall()
    assert rows == []


def test_what_runs_as_the_eraser_changes_rows_of_the_application_and_does_nothing_else(db: Connection) -> None:
    """Code of the tables' owner runs with that role's rights: it must have no others (REVIEW 2)."""
    erasing = {r.name.split("(")[0].split(".")[-1] for r in routines(db) if r.owner == "after_hours_eraser"}
    assert erasing == {"delete_rows"}
    changing = [
        r.name
        for r in routines(db)
        if r.prosecdef and r.owner != "after_hours_eraser"
        and re.search(r"\b(update|insert into|delete from|merge into)\s+public\.after_hours_", re.sub(r"'[^']*'", "", r.prosrc))
    ]  # fmt: skip
    assert changing == []
    rights = db.execute(
        "select c.oid::regclass::text as name, a.privilege_type as right from pg_class as c "
        "cross join lateral aclexplode(c.relacl) as a where a.grantee = 'after_hours_eraser'::regrole order by 1, 2"
    ).fetchall()
    assert [(r.name, r.right) for r in rights] == [
        ("after_hours_matches", "DELETE"), ("after_hours_matches", "SELECT"),
        ("after_hours_messages", "DELETE"), ("after_hours_messages", "SELECT"),
    ]  # fmt: skip
    role = db.execute(
        "select rolcanlogin or rolsuper or rolcreaterole or rolbypassrls as may, "
        "has_schema_privilege(rolname, 'after_hours', 'create') as creates, "
        "(select count(*) from pg_auth_members as m where m.member = r.oid) as groups "
        "from pg_roles as r where rolname = 'after_hours_eraser'"
    ).fetchone()
    assert role == (False, False, 0)


def test_settings_columns_are_commented(db: Connection) -> None:
    rows = db.execute(
        "select a.attname from pg_attribute as a where a.attrelid = 'after_hours.settings'::regclass and a.attnum > 0 "
        "and not a.attisdropped and a.attname <> 'singleton' and col_description(a.attrelid, a.attnum) is null"
    ).fetchall()
    assert rows == []


def test_relay_may_execute_its_functions_and_nothing_else(db: Connection) -> None:
    may = {r.name.split("(")[0] for r in routines(db) if "after_hours_relay" in r.grantees}
    assert {name.split(".")[-1] for name in may} == {
        "relay_attach", "relay_events", "relay_receipts", "relay_beat", "relay_probe", "relay_rescue", "relay_status",
    }  # fmt: skip
    tables = db.execute(
        "select c.relname from pg_class as c cross join lateral aclexplode(c.relacl) as a "
        "where a.grantee = 'after_hours_relay'::regrole"
    ).fetchall()
    assert tables == []


def test_nobody_who_logs_in_can_change_evidence_or_events(db: Connection) -> None:
    rows = db.execute(
        "select r.rolname, c.relname, p.privilege from pg_roles as r cross join pg_class as c "
        "cross join unnest(array['insert', 'update', 'delete', 'truncate']) as p (privilege) "
        "where not r.rolsuper and r.rolname like 'after\\_hours\\_%' and r.rolname <> 'after_hours_owner' "
        "and c.relnamespace = 'after_hours'::regnamespace and c.relname = any(array['events', 'epochs', 'purge_runs', "
        "'purge_batches', 'purged_matches', 'evidence_chain', 'holds', 'hold_log', 'settings_log']) "
        "and has_table_privilege(r.rolname, c.oid, p.privilege)"
    ).fetchall()
    assert rows == []


def error_codes() -> dict[str, set[str]]:
    """Each code raised in sql/ with the files that raise it; every raise of ours carries a hint."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        for statement in re.findall(r"raise exception using.*?;\n", path.read_text(), re.S):
            code = re.search(r"errcode = '(AH\w{3})'", statement)
            if code:
                assert "hint =" in statement, f"{path}: {code[1]} has no HINT"
                found.setdefault(code[1], set()).add(str(path.relative_to(SQL)))
    return found


def test_error_codes_are_listed_completely() -> None:
    listed = set(re.findall(r"^\| `(AH\w{3})` \|", (SQL / "README.md").read_text(), re.M))
    assert listed == set(error_codes())


def test_whoever_reads_the_application_s_tables_looks_what_they_are(db: Connection) -> None:
    """A view in the place of one would run its owner's functions with our rights. Internal ones are called after that look."""
    routines = db.execute(
        "select p.oid::regprocedure::text as name, p.prosrc from pg_proc as p where p.pronamespace = 'after_hours'::regnamespace"
        " and p.prosecdef and p.prosrc ~ 'from public\\.after_hours_|join public\\.after_hours_|purgeable_matches'"
    ).fetchall()
    assert len(routines) > 20
    looks = re.compile(
        r"_assert_tables|assert_access|assert_row_visibility|_share_tables|list_upcoming|-- Access:  internal"
    )
    assert [row.name for row in routines if not looks.search(row.prosrc.split("\nexception\n")[0])] == []


@pytest.mark.parametrize("name", ["preflight.sql", "roles.sql"])
def test_what_is_said_before_the_encoding_is_known_is_ascii(name: str) -> None:
    """A database of another encoding is refused in words; a server can't convert every text into it."""
    assert (SQL / name).read_text().isascii()
