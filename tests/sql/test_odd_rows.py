"""One odd row of the application takes no view, check or page away from the DBA (CASES 19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Connection

INSTANTS = ("infinity", "-infinity", "10026-01-01Z", "294276-12-31Z", "0044-03-15Z BC", "2026-11-01Z")
VIEWS = """
    select c.relname from pg_class as c
    where c.relnamespace = 'after_hours'::regnamespace and c.relkind = 'v' order by 1
"""


@pytest.fixture
def odd(db: Connection) -> Connection:
    """Sessions and matches with each pair of odd instants, announced and purged as far as they can be."""
    for started in INSTANTS:
        for ended in INSTANTS:
            db.execute(
                "insert into public.after_hours_sessions (user_id, started_at, expires_at)"
                " values (gen_random_uuid(), %s, %s)",
                (started, ended),
            )
            db.execute(
                "insert into public.after_hours_matches (user_a, user_b, created_at, expires_at)"
                " values (gen_random_uuid(), gen_random_uuid(), %s, %s)",
                (started, ended),
            )
    db.execute("update after_hours.settings set announce_since = '2020-01-01Z'")
    db.execute("select after_hours.announce_due()")
    return db


def test_every_view_can_be_read(odd: Connection) -> None:
    for view in odd.execute(VIEWS).fetchall():
        odd.execute(f"select v::text from after_hours.{view.relname} as v".encode()).fetchall()


def test_preview_purge_doctor_and_status_answer(odd: Connection) -> None:
    odd.execute("select * from after_hours.purge_preview()").fetchall()
    odd.execute("call after_hours.purge()")
    odd.execute("select * from after_hours.doctor()").fetchall()
    odd.execute("select after_hours.relay_status()").fetchall()
    odd.execute(
        "select * from after_hours.relay_attach(array(select user_id from public.after_hours_sessions),"
        " array(select null::text from public.after_hours_sessions), array(select now() from public.after_hours_sessions))"
    ).fetchall()
    for match in odd.execute("select id from public.after_hours_matches").fetchall():
        odd.execute("select * from after_hours.explain_match(%s)", (match.id,)).fetchall()
    assert odd.execute("select count(*) from after_hours.set_aside").fetchone() == (0,)


def test_the_doctor_tells_of_a_child_table(db: Connection) -> None:
    # Rows of two tables share ctids: announcing looks a due session up by it.
    db.execute("create table public.child () inherits (public.after_hours_sessions)")
    try:
        (row,) = db.execute("select * from after_hours.doctor() where subject like 'inheritance%'").fetchall()
        assert (row.ok, row.advice) == (False, "alter table public.child no inherit public.after_hours_sessions;")
    finally:
        db.execute("drop table public.child")
