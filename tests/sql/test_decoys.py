"""Names are resolved by us (SECURITY.md): who may CREATE in schema public runs nothing with the rights of others.

A stranger makes decoys in public: for every operator and function of pg_catalog that our texts name, one for each pair of
argument types for which PostgreSQL finds the real one by an exact match or an implicit cast. The database's default is to
look in public first, so that each decoy wins wherever a text is resolved under that default. All is then run by a
superuser, by the jobs' role and by a DBA. A decoy that runs says so in the server log.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.helpers import REPO

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection, Instance

TYPES = [
    "text",
    "bigint",
    "integer",
    "smallint",
    "numeric",
    "float8",
    "interval",
    "timestamptz",
    "timestamp",
    "date",
    "uuid",
    "boolean",
    "oid",
    "regclass",
    "name",
    '"char"',
    "jsonb",
    "json",
    "xid",
    "xid8",
    "pg_lsn",
    "bytea",
    "text[]",
    "uuid[]",
    "bigint[]",
    "timestamptz[]",
    "regrole",
    "regprocedure",
    "regnamespace",
    "inet",
]
FEW = [
    "text",
    "bigint",
    "integer",
    "numeric",
    "float8",
    "interval",
    "timestamptz",
    "uuid",
    "boolean",
    "regclass",
    "name",
    "jsonb",
    "text[]",
    "uuid[]",
]
# A decoy for each call that PostgreSQL can resolve: with the type that the real one returns.
MAKE = """
do $make$
declare
    v_call record;
    v_result text;
    v_number integer := 0;
begin
    for v_call in
        select n.name, a.t as l, b.t as r, true as is_operator
        from unnest($1::text[]) as n (name) cross join unnest($2::text[]) as a (t) cross join unnest($2::text[]) as b (t)
        union all
        select n.name, a.t, null, false from unnest($3::text[]) as n (name) cross join unnest($2::text[]) as a (t)
        union all
        select n.name, a.t, b.t, false
        from unnest($3::text[]) as n (name) cross join unnest($4::text[]) as a (t) cross join unnest($4::text[]) as b (t)
    loop
        v_number := v_number + 1;
        begin
            execute case
                when v_call.is_operator
                    then format('select pg_typeof(null::%s operator(pg_catalog.%s) null::%s)', v_call.l, v_call.name, v_call.r)
                when v_call.r is null then format('select pg_typeof(pg_catalog.%I(null::%s))', v_call.name, v_call.l)
                else format('select pg_typeof(pg_catalog.%I(null::%s, null::%s))', v_call.name, v_call.l, v_call.r)
            end into v_result;
            execute format(
                'create function public.%I(%s) returns %s language plpgsql as '
                '$decoy$ begin raise warning ''DECOY %s(%s) ran as %%'', current_user; return null; end $decoy$',
                case when v_call.is_operator then 'decoy_' || v_number else v_call.name end,
                concat_ws(', ', v_call.l, v_call.r), v_result, v_call.name, concat_ws(', ', v_call.l, v_call.r)
            );
            if v_call.is_operator then
                execute format('create operator public.%s (leftarg = %s, rightarg = %s, function = public.decoy_%s)',
                    v_call.name, v_call.l, v_call.r, v_number);
            end if;
        exception when others then
            continue; -- there is no such call
        end;
    end loop;
end
$make$
"""


def texts() -> str:
    """All SQL of the project, without comments and strings."""
    files = [*REPO.glob("sql/**/*.sql"), *REPO.glob("alembic/*.py"), *REPO.glob("relay/**/*.py")]
    whole = "\n".join(path.read_text() for path in files)
    return re.sub(r"--.*|'(?:[^'\n]|'')*'", " ", whole)


@pytest.fixture(scope="module")
def decoyed(make_instance: Callable[..., Instance]) -> Instance:
    """A database in which After Hours isn't installed yet, and a stranger's decoys are."""
    made = make_instance("cluster")
    made.alembic("downgrade", "base")
    with made.connect() as db:
        db.execute(
            "create role after_hours_stranger login; grant create, usage on schema public to after_hours_stranger"
        )
        db.execute("create role some_dba login in role after_hours_dba")
        operators = {row[0] for row in db.execute("select distinct oprname from pg_operator").fetchall()}
        functions = {
            row[0]
            for row in db.execute(
                "select distinct proname from pg_proc where pronamespace = 'pg_catalog'::regnamespace"
                " and proname !~ '^(pg_sleep|pg_terminate|pg_cancel|pg_reload|pg_rotate|pg_switch|pg_create|pg_drop|lo_)'"
            ).fetchall()
        }
        named = {name for name in re.findall(r"[-+*/<>=~!@#%^&|?]+", texts()) if name in operators} | {"~~", "!~~", "="}
        called = functions & set(re.findall(r"\b([a-z_][a-z0-9_]*)\(", texts()))
    assert len(named) > 20
    assert len(called) > 80
    with made.connect("after_hours_stranger") as stranger:
        stranger.execute("set search_path = pg_catalog")
        query = MAKE
        for number, values in ((1, sorted(named)), (2, TYPES), (3, sorted(called)), (4, FEW)):
            array = "array[" + ", ".join("'" + each.replace("'", "''") + "'" for each in values) + "]"
            query = query.replace(f"${number}", array)
        stranger.execute(query.encode())
        count = stranger.execute("select count(*) from pg_proc where pronamespace = 'public'::regnamespace").fetchall()
        assert count[0][0] > 2000
    with made.connect() as db:
        db.execute("alter database after_hours set search_path = public, pg_catalog")
    return made


def server_log(instance: Instance) -> str:
    """The log that ./dev has the server write beside its data directory."""
    with instance.connect() as db:
        (row,) = db.execute("show data_directory").fetchall()
    return (Path(row[0]).parent / "postgres.log").read_text(errors="replace")


def ran(instance: Instance) -> list[str]:
    """What decoys have said in the server log since it was asked last."""
    text = server_log(instance)[READ[0] :]
    READ[0] += len(text)
    return sorted(set(re.findall(r"DECOY .*", text)) - {TRIED})


def fill(db: Connection) -> None:
    """An overdue match with a message, a session that ends."""
    db.execute("set search_path = pg_catalog")
    db.execute(
        "delete from after_hours.holds; delete from public.after_hours_messages; delete from public.after_hours_matches"
    )
    db.execute(
        "insert into public.after_hours_matches (id, user_a, user_b, created_at, expires_at) values"
        " ('00000000-0000-0000-0000-000000000001', gen_random_uuid(), gen_random_uuid(), now() - interval '90 days',"
        " now() - interval '31 days');"
        "insert into public.after_hours_messages (match_id, sender_id, body)"
        " select id, user_a, 'hi' from public.after_hours_matches;"
        "insert into public.after_hours_sessions (user_id, started_at, expires_at)"
        " values (gen_random_uuid(), now() - interval '1 hour', now() + interval '1 second')"
    )
    db.execute("reset search_path")


READ = [0]  # characters of the log
TRIED = "DECOY *(numeric, interval) ran as after_hours_stranger"


@pytest.fixture(scope="module")
def installed(decoyed: Instance) -> Instance:
    """After Hours installed among the decoys."""
    decoyed.alembic("upgrade", "head")
    decoyed.stop_jobs()
    return decoyed


def test_the_decoys_run_where_they_are_found(decoyed: Instance) -> None:
    with decoyed.connect("after_hours_stranger") as stranger:
        stranger.execute("select null::numeric * null::interval")
    assert TRIED in server_log(decoyed)


def test_an_installation_finds_none(installed: Instance) -> None:
    assert ran(installed) == []


VIEWS = """
    select c.oid::pg_catalog.regclass::pg_catalog.text as name from pg_catalog.pg_class as c
    where c.relkind operator(pg_catalog.=) 'v' and c.relnamespace operator(pg_catalog.=) 'after_hours'::pg_catalog.regnamespace
"""
CALLS = """
    select after_hours.announce_due(); call after_hours.purge(); call after_hours.housekeeping(); select after_hours.doctor();
    select after_hours.help(); select after_hours.purge_preview(); select after_hours.verify_evidence();
    select after_hours.list_lock_holders(); select after_hours.pause_job('purge', '2100-01-01', 'a reason');
    select after_hours.resume_job('purge'); select after_hours.explain_match('00000000-0000-0000-0000-000000000001')
"""


@pytest.mark.parametrize("role", ["postgres", "after_hours_jobs", "some_dba"])
def test_what_a_hand_or_a_job_calls_finds_none(installed: Instance, role: str) -> None:
    with installed.connect() as db:
        fill(db)
        views = [row.name for row in db.execute(VIEWS).fetchall()]
        db.execute(f"set session authorization {role}")
        refused = []
        for call in [*(f"select * from {view}" for view in views), *CALLS.split(";")]:
            try:
                db.execute(call.encode())
            except psycopg.errors.InsufficientPrivilege:
                refused.append(call)
        assert len(refused) < (1 if role == "postgres" else 25)
        if role != "some_dba":
            db.execute("set statement_timeout = '2s'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                db.execute("call after_hours.announce_loop('29 s')")  # ends in 29 s at the earliest
    assert ran(installed) == []


@pytest.mark.parametrize("script", sorted(path.name for path in (REPO / "sql" / "psql").glob("*.*sql")))
def test_the_scripts_for_hands_find_none(installed: Instance, script: str) -> None:
    with installed.connect() as db:
        fill(db)
    match = "00000000-0000-0000-0000-000000000001"
    typed = {
        "hold.sql": f"match\n{match}\nlegal\nreason\n\n", "pause.sql": "purge\n2 hours\nreason\n", "resume.sql": "purge\n",
        "delivery.sql": f"{match}\n", "explain.sql": f"{match}\n", "release.sql": "1\nreason\n", "purge.sql": "1\n", "menu.psql": "1\nq\n",
    }  # fmt: skip
    result = subprocess.run(
        ["psql", "-X", "-P", "pager=off", installed.dsn()],
        input=f"\\i {REPO}/sql/psql/{script}\n{typed.get(script, '')}", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "ERROR" not in result.stderr or script == "release.sql", result.stderr  # there is no hold
    assert ran(installed) == []


@pytest.mark.parametrize(
    "arguments", ["preflight", "status", "doctor", "purge --preview", "purge --now --yes", "migrate", "sql"]
)
def test_the_commands_find_none(installed: Instance, arguments: str) -> None:
    with installed.connect() as db:
        fill(db)
    result = subprocess.run(
        [sys.executable, "-m", "relay", *arguments.split()], cwd=REPO, capture_output=True, text=True,
        env={**os.environ, "AFTER_HOURS_DSN": installed.dsn()},
    )  # fmt: skip
    assert "Traceback" not in result.stderr, result.stderr
    assert ran(installed) == []


def test_removing_finds_none(installed: Instance) -> None:
    installed.alembic("downgrade", "base")
    assert ran(installed) == []
