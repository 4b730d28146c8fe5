"""P6, P7, P10 at the extremes: whatever the settings accept, no look raises and nothing live is purged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.sql.purge_helpers import ids, make_match, value

if TYPE_CHECKING:
    from uuid import UUID

    from tests.conftest import Connection

SPANS = (
    "0", "1 microsecond", "5 ms", "59.999 s", "1 minute", "1 hour", "1 day", "30 days", "36500 days", "36500 days 1 us", "10000 years",
    "-1 day", "1 month", "-1200 months 36030 days", "1 day -1 hour", "-1 day 48 hours", "-1 month 31 days", "178000000 years",
    "2147483647 days", "876000 hours",
)  # fmt: skip
NUMBERS = (
    "-1",
    "0",
    "1",
    "2",
    "365",
    "2147483647",
    "1e6",
    "1e12",
    "9223372036854775807",
    "NaN",
    "Infinity",
    "-Infinity",
    "0.5",
)
INSTANTS = ("-infinity", "infinity", "4713-01-01 BC", "294276-12-31", "2000-01-01", "now", "tomorrow")
CANDIDATES = {"after_hours.span": SPANS, "timestamp with time zone": INSTANTS, "boolean": ("true", "false")}
COLUMNS = """
    select attname as name, format_type(atttypid, null) as type from pg_attribute
    where attrelid = 'after_hours.settings'::regclass and attnum > 0 and not attisdropped and attname <> 'singleton'
        and format_type(atttypid, null) <> 'text'
    order by attnum
"""
LOOKS = (
    *(
        f"select * from after_hours.{view}"
        for view in (
            "health", "jobs", "job_runs", "upcoming", "backlog", "not_purged", "stale_holds", "purge_history", "lateness", "delivery_report",
            "unreached_warnings", "retained_messages", "visible_messages", "push_backlog", "push_history",
        )
    ),
    "select * from after_hours.purge_preview()", "select * from after_hours.doctor()", "select * from after_hours.relay_status()",
    "select * from after_hours.verify_evidence()", "select * from after_hours.explain_match('{match}')",
    "select * from after_hours.relay_events('aaaaaaaa-0')", "select * from after_hours.announce_due()",
    "select * from after_hours.relay_attach(array[gen_random_uuid()], array['aaaaaaaa-0'], array[now()])",
    "call after_hours.housekeeping()", "call after_hours.purge()", "select after_hours.start_session(gen_random_uuid())",
)  # fmt: skip


def columns(db: Connection) -> dict[str, tuple[str, ...]]:
    """The columns of settings with values to be tried."""
    return {row.name: CANDIDATES.get(row.type, NUMBERS) for row in db.execute(COLUMNS).fetchall()}


def put(db: Connection, name: str, new: str) -> bool:
    """Set a column; False if it is refused."""
    try:
        db.execute(f"update after_hours.settings set {name} = %s".encode(), (new,))
    except (psycopg.errors.DataError, psycopg.errors.CheckViolation):
        return False
    return True


def look(db: Connection, live: set[UUID]) -> None:
    """All looks, a purge among them: none raises, what is live stays. A failed check of health says why it can't see."""
    for query in LOOKS:
        db.execute(query.format(match=next(iter(live))).encode())
    assert live <= ids(db)
    blind = "select detail from after_hours.health where detail ~ 'this check failed|out of range|cannot'"
    assert db.execute(blind.encode()).fetchall() == []


def populate(db: Connection) -> set[UUID]:
    """An overdue match and live ones, whose ids are returned; sessions that end."""
    make_match(db, days=400)
    live = {make_match(db, days=days) for days in (0.5, -0.1, -400)}
    db.execute(
        "insert into public.after_hours_sessions (user_id, started_at, expires_at)"
        " values (gen_random_uuid(), now() - interval '1 hour', now() - interval '1 second'),"
        " (gen_random_uuid(), now() - interval '1 hour', now() + interval '1 minute')"
    )
    db.execute("update public.after_hours_matches set created_at = now() where expires_at > now() - interval '1 day'")
    return live


def test_each_value_is_refused_or_harmless(db: Connection) -> None:
    live, accepted = populate(db), 0
    for name, values in columns(db).items():
        before = value(db, f"select {name}::text from after_hours.settings")
        for new in values:
            if put(db, name, new):
                accepted += 1
                look(db, live)
        assert put(db, name, before)
    assert accepted > 40


def test_the_settings_of_other_spans_are_refused(db: Connection) -> None:
    for span in ("10000 years", "-1200 months 36030 days", "1 month", "1 day -1 hour", "2147483647 days"):
        for name in ("retention", "event_retention", "tombstone_retention", "receipt_retention", "warning_lead"):
            assert not put(db, name, span), (name, span)


@examples(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_together_too(db: Connection, data: Any) -> None:
    db.execute("truncate after_hours.holds, public.after_hours_messages, public.after_hours_matches")
    live, tried = populate(db), columns(db)
    for name in data.draw(st.lists(st.sampled_from(sorted(tried)), min_size=3, max_size=8, unique=True)):
        put(db, name, data.draw(st.sampled_from(tried[name])))
    look(db, live)


@pytest.mark.parametrize(
    "span", ["-1200 months 36000 days 10 minutes", "1 month", "0", "-1 hour", "10000 years", "2 days -1 hour"]
)
def test_a_session_of_another_length_is_refused(db: Connection, span: str) -> None:
    with pytest.raises(psycopg.Error) as raised:
        db.execute("select after_hours.start_session(gen_random_uuid(), %s)", (span,))
    assert raised.value.sqlstate == "AH008"
    session = value(db, "select id from after_hours.start_session(gen_random_uuid())")
    if span != "2 days -1 hour":
        with pytest.raises(psycopg.Error) as raised:
            db.execute("select after_hours.extend_session(%s, %s)", (session, span))
        assert raised.value.sqlstate == "AH008"


@pytest.mark.parametrize("seconds", ["-1", "NaN", "1e9"])
def test_a_purge_of_another_length_is_refused(db: Connection, seconds: str) -> None:
    with pytest.raises(psycopg.Error) as raised:
        db.execute(f"call after_hours.purge(p_max_seconds => '{seconds}')".encode())
    assert raised.value.sqlstate == "AH018"


def test_a_match_made_within_the_retention_stays_whatever_its_expiry_says(db: Connection) -> None:
    match = make_match(db)
    db.execute("update public.after_hours_matches set created_at = now() - interval '1 minute'")
    db.execute("call after_hours.purge()")
    assert ids(db) == {match}
    explained = dict(
        tuple(row) for row in db.execute("select * from after_hours.explain_match(%s)", (match,)).fetchall()
    )
    assert explained["verdict"].startswith("stays until ")
    preview = "select matches from after_hours.purge_preview() where item = 'young'"
    assert value(db, preview) == 1
    assert value(db, "select count(*) from after_hours.not_purged") == 0
