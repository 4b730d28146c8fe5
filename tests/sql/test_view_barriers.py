"""A view that restricts what its reader sees keeps its other rows from the reader's own functions as well (REVIEW 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.sql.purge_helpers import make_match, notices, purge, value

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection

SEATS = {
    "after_hours_app": "after_hours_app", "after_hours_jobs": "after_hours_jobs", "after_hours_relay": "after_hours_relay",
    "after_hours_moderator": "after_hours_moderator_login", "after_hours_dba": "after_hours_dba_login",
}  # fmt: skip

# cheaper than anything: the planner evaluates it before every other condition that it is allowed to move it past
LEAK = """
    create function pg_temp.leak(value text) returns boolean language plpgsql cost 0.0000001 as
    $$ begin raise notice 'leaked %', coalesce(value, 'null'); return true; end $$
"""

GRANTED = """
    select c.relname as view, g.rolname as seat
    from pg_class as c
    cross join lateral aclexplode(c.relacl) as a
    join pg_roles as g on g.oid = a.grantee
    where c.relnamespace = 'after_hours'::regnamespace and c.relkind = 'v'
        and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
    order by 1, 2
"""


@pytest.fixture
def populated(db: Connection) -> Connection:
    """Rows on both sides of every restriction: live, saved, expired, overdue and held matches; events and receipts."""
    make_match(db)
    purge(db)
    for days, saved in ((31, False), (1, False), (-1, False), (1, True), (-1, True)):
        make_match(db, days=days, saved=saved)
    held = make_match(db)
    db.execute("select after_hours.place_hold(%s, 'report', 'because')", (held,))
    db.execute("select after_hours.place_user_hold(%s, 'legal', 'because')", (uuid4(),))
    db.execute("update after_hours.holds set placed_at = placed_at - interval '1 year' where match_id is not null")
    db.execute(
        "insert into public.after_hours_sessions (user_id, started_at, expires_at) "
        "select gen_random_uuid(), now() - interval '1 hour', now() + n * interval '50 seconds' "
        "from generate_series(-3, 3) as n"
    )
    db.execute("select * from after_hours.announce_due()")
    db.execute("update after_hours.events set emitted_at = emitted_at - interval '10 seconds'")
    db.execute(
        "select after_hours.relay_receipts('a', array_agg(e.id), array_agg(e.uid), array_agg(e.user_id), "
        "array_agg(e.emitted_at), array_agg(null::timestamptz)) from after_hours.events as e where e.id % 2 = 0"
    )
    db.execute("delete from after_hours.events where id = 2")
    return db


def test_a_reader_s_function_sees_the_rows_of_the_view_and_no_others(
    populated: Connection, login: Callable[..., Connection]
) -> None:
    granted = populated.execute(GRANTED).fetchall()
    assert {"retained_messages", "visible_messages", "stale_holds"} <= {row.view for row in granted}
    shown = set()
    for row in granted:
        reader = login(SEATS[row.seat])
        reader.execute(LEAK)
        seen = notices(reader)
        columns = [
            each.attname
            for each in populated.execute(
                "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0",
                (f"after_hours.{row.view}",),
            ).fetchall()
        ]
        for column in columns:
            seen.clear()
            count = value(reader, f"select count(*) from after_hours.{row.view} where pg_temp.leak({column}::text)")
            assert len([text for text in seen if text.startswith("leaked ")]) == count, (row.view, row.seat, column)
            if count:
                shown.add(row.view)
        reader.close()
    assert shown >= {"retained_messages", "visible_messages", "stale_holds", "delivery_report", "unreached_warnings"}


def test_every_granted_view_is_a_barrier_and_no_union(populated: Connection) -> None:
    """PostgreSQL takes a union at the top of a view apart before it looks at security_barrier."""
    faults = populated.execute(
        "select distinct c.relname from pg_class as c cross join lateral aclexplode(c.relacl) as a "
        "where c.relnamespace = 'after_hours'::regnamespace and c.relkind = 'v' and a.grantee <> c.relowner "
        "and (not coalesce(c.reloptions, '{}') @> array['security_barrier=true'] "
        "or pg_get_viewdef(c.oid) ~ '\\n(UNION|EXCEPT|INTERSECT)')"
    ).fetchall()
    assert faults == []


def test_a_moderator_s_question_by_match_still_uses_the_index(
    populated: Connection, login: Callable[..., Connection]
) -> None:
    populated.execute(
        "insert into public.after_hours_matches (user_a, user_b, expires_at) "
        "select gen_random_uuid(), gen_random_uuid(), now() from generate_series(1, 5000)"
    )
    populated.execute(
        "insert into public.after_hours_messages (match_id, sender_id, body) "
        "select m.id, m.user_a, 'hi' from public.after_hours_matches as m cross join generate_series(1, 5)"
    )
    populated.execute("analyze public.after_hours_messages, public.after_hours_matches")
    moderator = login("after_hours_moderator_login")
    plan = moderator.execute(
        "explain select * from after_hours.retained_messages where match_id = '00000000-0000-4000-8000-000000000000'"
    ).fetchall()
    text = "\n".join(row[0] for row in plan)
    assert "Seq Scan on after_hours_messages" not in text
    assert "Seq Scan on after_hours_matches" not in text
