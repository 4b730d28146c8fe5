"""Health, doctor and relay_status never raise, whatever others do to rights, tables and extensions around us (P10).

Each damage is done in a transaction that is rolled back. The views for hands answer, or say in an error of ours why not.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.sql.install_helpers import install_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection

RENAME = "alter table public.after_hours_{} rename {} to {}"
# what was done; what the row "access" of health says then ("": nothing that it knows)
DAMAGES = {
    "usage on public": (
        "revoke usage on schema public from public, after_hours_owner, after_hours_eraser, after_hours_app",
        "schema public: usage for after_hours_owner",
    ),
    "usage on cron": (
        "revoke usage on schema cron from public, after_hours_jobs",
        "schema cron: usage for after_hours_jobs",
    ),
    "usage on after_hours": (
        "revoke usage on schema after_hours from after_hours_jobs, after_hours_eraser, after_hours_relay, after_hours_app",
        "schema after_hours: usage for after_hours_jobs",
    ),
    "connect": (
        "do $$ begin execute format('revoke connect on database %I from public, after_hours_jobs, after_hours_app, "
        "after_hours_relay', current_database()); end $$",
        "connect for after_hours_jobs",
    ),
    "select on sessions": (
        "revoke all on public.after_hours_sessions from after_hours_owner, after_hours_eraser, after_hours_app",
        "public.after_hours_sessions: select for after_hours_owner",
    ),
    "update on sessions": (
        "revoke update (end_reason) on public.after_hours_sessions from after_hours_owner",
        "public.after_hours_sessions: update (end_reason) for after_hours_owner",
    ),
    "select on matches": (
        "revoke all on public.after_hours_matches from after_hours_owner, after_hours_eraser, after_hours_app",
        "public.after_hours_matches: select for after_hours_owner",
    ),
    "delete on messages": (
        "revoke delete on public.after_hours_messages from after_hours_eraser",
        "public.after_hours_messages: delete for after_hours_eraser",
    ),
    "select on messages": (
        "revoke all on public.after_hours_messages from after_hours_owner, after_hours_eraser, after_hours_app",
        "public.after_hours_messages: select for after_hours_owner",
    ),
    "select on pg_cron's tables": (
        "revoke all on cron.job, cron.job_run_details from public, after_hours_jobs",
        "cron.job: select for after_hours_jobs",
    ),
    "execute on our routines": (
        "revoke execute on all routines in schema after_hours from after_hours_jobs, after_hours_relay, after_hours_app",
        "routine after_hours.",
    ),
    "execute on the jobs role's routines": (
        "revoke execute on function after_hours.check_jobs(), after_hours.list_jobs(), after_hours.examine_server(), "
        "after_hours.announce_mode() from after_hours_owner",
        "",
    ),
    "execute on the server's functions": (
        "revoke execute on function pg_control_system(), pg_notification_queue_usage(), pg_postmaster_start_time() "
        "from public",
        "",
    ),
    "pg_monitor": ("revoke pg_monitor from after_hours_jobs", "role after_hours_jobs: membership in pg_monitor"),
    "row security on sessions": (
        "alter table public.after_hours_sessions enable row level security",
        "public.after_hours_sessions: row security hides rows from after_hours_owner",
    ),
    "row security on matches": (
        "alter table public.after_hours_matches enable row level security",
        "public.after_hours_matches: row security hides rows from after_hours_owner",
    ),
    "row security on messages": (
        "alter table public.after_hours_messages enable row level security",
        "public.after_hours_messages: row security hides rows from after_hours_owner",
    ),
    "row security on our tables": (
        "do $$ declare t regclass; begin for t in select oid from pg_class where relnamespace = 'after_hours'::regnamespace "
        "and relkind = 'r' loop execute format('alter table %s enable row level security', t); end loop; end $$",
        "",
    ),
    "column of sessions dropped": (
        "alter table public.after_hours_sessions drop column ended_at cascade",
        "public.after_hours_sessions: column ended_at",
    ),
    "column of sessions renamed": (
        RENAME.format("sessions", "expires_at", "valid_until"),
        "public.after_hours_sessions: column expires_at",
    ),
    "column of matches renamed": (
        RENAME.format("matches", "converted_to_match_id", "kept_as"),
        "public.after_hours_matches: column converted_to_match_id",
    ),
    "column of messages renamed": (
        RENAME.format("messages", "match_id", "chat_id"),
        "public.after_hours_messages: column match_id",
    ),
    "sessions renamed": (
        "alter table public.after_hours_sessions rename to sessions",
        "public.after_hours_sessions: the table is missing",
    ),
    "sessions dropped": (
        "drop table public.after_hours_sessions cascade",
        "public.after_hours_sessions: the table is missing",
    ),
    "matches and messages dropped": (
        "drop table public.after_hours_messages, public.after_hours_matches cascade",
        "public.after_hours_matches: the table is missing",
    ),
    "pg_cron dropped": ("drop extension pg_cron cascade", "extension pg_cron: it is not installed in this database"),
    "another search path": ("create schema app; set local search_path = app, public, pg_catalog", ""),
    "settings of a database": (
        "set local row_security = off; set local datestyle = 'German'; set local intervalstyle = 'sql_standard'; "
        "set local timezone = 'America/New_York'; set local quote_all_identifiers = on; set local bytea_output = 'escape'; "
        "set local lc_numeric = 'C'; set local extra_float_digits = -3; set local transaction_read_only = on",
        "",
    ),
}
# the role that answers may not use our schema or routine itself: PostgreSQL's own words name it
NO_ENTRY = re.compile("permission denied for (schema after_hours|function [a-z_]+)")
VIEWS = (
    "jobs", "job_runs", "upcoming", "backlog", "not_purged", "stale_holds", "purge_history", "lateness",
    "delivery_report", "unreached_warnings", "sql_drift", "push_backlog", "push_history",
)  # fmt: skip


@pytest.fixture
def dba(db: Connection, login: Callable[..., Connection]) -> Connection:
    """A superuser's connection with a due session, an overdue match and a job's plan; it acts as a DBA after `damage`."""
    db.execute(
        "insert into public.after_hours_sessions (user_id, started_at, expires_at) "
        "values (gen_random_uuid(), now() - interval '1 hour', now() - interval '1 minute')"
    )
    db.execute(
        "insert into public.after_hours_matches (user_a, user_b, created_at, expires_at) "
        "values (gen_random_uuid(), gen_random_uuid(), now() - interval '90 days', now() - interval '40 days')"
    )
    return db


@pytest.mark.parametrize("damage", DAMAGES)
def test_they_answer_and_name_what_is_missing(dba: Connection, damage: str) -> None:
    statement, missing = DAMAGES[damage]
    names = {row.check_name for row in dba.execute("select * from after_hours.health").fetchall()}
    with dba.transaction(force_rollback=True):
        dba.execute(statement.encode())
        dba.execute("set local session authorization after_hours_dba_login")
        health = {row.check_name: row for row in dba.execute("select * from after_hours.health").fetchall()}
        assert set(health) == names, "one row per check, whatever happens"
        doctor = dba.execute("select * from after_hours.doctor()").fetchall()
        assert health["access"].ok == (not missing)
        assert missing in health["access"].detail
        subjects = {
            f"{row.subject.removeprefix('access to ')}: {row.finding.removeprefix('missing: ')}" for row in doctor
        }
        assert not missing or any(missing in subject for subject in subjects)
        unseen = [row for row in health.values() if "can't be checked" in row.detail]
        assert all(row.next_command for row in unseen)
        for view in VIEWS:
            try:
                with dba.transaction():
                    dba.execute(f"select v::text from after_hours.{view} as v".encode()).fetchall()
            except psycopg.Error as error:
                is_clear = bool(missing) and (str(error.sqlstate).startswith("AH") or NO_ENTRY.match(str(error)))
                assert is_clear, f"{view}: {error}"  # noqa: PT017 - most of them raise nothing
        dba.execute("reset session authorization")
        answer = dba.execute("select after_hours.relay_status()").fetchone()
        assert answer is not None
        status = json.loads(answer[0])
        assert {"serverTime", "heartbeatAgeSeconds", "backlog", "jobs", "upcoming"} <= set(status)
        assert names <= {row["check"] for row in status["health"]}


REPAIRED = [
    "usage on public", "usage on cron", "usage on after_hours", "connect", "select on sessions", "update on sessions",
    "select on matches", "delete on messages", "select on messages", "select on pg_cron's tables",
    "execute on our routines", "execute on the jobs role's routines",
]  # fmt: skip


@pytest.mark.parametrize("damage", [*REPAIRED, "pg_monitor", "row security on matches"])
def test_what_health_says_mends_it(dba: Connection, damage: str) -> None:
    with dba.transaction(force_rollback=True):
        dba.execute(DAMAGES[damage][0].encode())
        for row in dba.execute("select next_command from after_hours.list_missing()").fetchall():
            dba.execute(row.next_command.encode())
        assert dba.execute("select * from after_hours.list_missing()").fetchall() == []


@pytest.mark.parametrize("damage", REPAIRED)
def test_an_apply_mends_it(dba: Connection, damage: str) -> None:
    with dba.transaction(force_rollback=True):
        dba.execute(DAMAGES[damage][0].encode())
        dba.execute(install_text().encode())
        assert dba.execute("select * from after_hours.list_missing()").fetchall() == []
        unseen = "select * from after_hours.health where detail like 'can''t be checked%'"
        assert dba.execute(unseen).fetchall() == []
