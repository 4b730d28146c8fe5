"""The doctor names roles it does not know that can read the tables or execute our routines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Connection

EXPOSURES = (
    "select subject, ok, finding, advice from after_hours.doctor() where subject like 'exposure%' order by subject"
)


def test_nothing_is_exposed_at_first(db: Connection) -> None:
    assert [row.ok for row in db.execute(EXPOSURES).fetchall()] == [True]


@pytest.mark.parametrize(
    ("grant", "subject", "finding"),
    [
        ("select on public.after_hours_messages to anon", "exposure of table after_hours_messages", "anon: select"),
        ("all on public.after_hours_matches to public", "exposure of table after_hours_matches", "public: delete"),
        (
            "execute on all functions in schema after_hours to anon",
            "exposure of routines of after_hours",
            "anon: execute",
        ),
        ("execute on function after_hours.help() to public", "exposure of routines of after_hours", "public: execute"),
    ],
)
def test_grants_to_others_are_named_with_the_statement_that_takes_them_back(
    db: Connection, grant: str, subject: str, finding: str
) -> None:
    with db.transaction(force_rollback=True):
        db.execute("create role anon nologin")
        db.execute(f"grant {grant}".encode())
        rows = [row for row in db.execute(EXPOSURES).fetchall() if not row.ok]
        assert [row.subject.replace("public.", "") for row in rows] == [subject]
        assert finding in rows[0].finding
        revoke = rows[0].advice.split("else: ")[1]
        db.execute(revoke.encode())
        assert [row.ok for row in db.execute(EXPOSURES).fetchall()] == [True]


def test_the_application_s_own_role_is_known_by_its_membership(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute("create role chat_service nologin")
        db.execute("grant select on public.after_hours_sessions to chat_service")
        assert [row.ok for row in db.execute(EXPOSURES).fetchall()] == [False]
        db.execute("grant after_hours_app to chat_service")
        assert [row.ok for row in db.execute(EXPOSURES).fetchall()] == [True]
