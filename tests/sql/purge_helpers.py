"""Shared by the tests of retention: making matches, running the purge, and the plain rule it is measured by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from tests.conftest import Connection

# The oracle, written independently of the product: which matches a purge has to take.
DUE = """
    select m.id from public.after_hours_matches m
    where m.expires_at < now() - interval '30 days' and m.converted_to_match_id is null
      and (select count(*) from after_hours.holds h where h.match_id = m.id) = 0
      and (select count(*) from after_hours.holds h where h.user_id in (m.user_a, m.user_b)) = 0
"""


def make_match(
    db: Connection,
    days: float = 31,
    messages: int = 3,
    saved: bool = False,
    users: tuple[UUID, UUID] | None = None,
) -> UUID:
    """A match that expired some days ago, with messages; returns its id."""
    first, second = users or (uuid4(), uuid4())
    match = uuid4()
    db.execute(
        "insert into public.after_hours_matches (id, user_a, user_b, created_at, expires_at, converted_to_match_id) "
        "values (%s, %s, %s, now() - interval '90 days', now() - %s * interval '24 hours', %s)",
        (match, first, second, days, uuid4() if saved else None),
    )
    db.execute(
        "insert into public.after_hours_messages (match_id, sender_id, body) "
        "select %s, %s, 'message ' || n from generate_series(1, %s) as n",
        (match, first, messages),
    )
    return match


def make_matches(db: Connection, count: int, days: float = 31, messages: int = 1) -> None:
    """Many matches that expired within the day before, each with as many messages."""
    db.execute(
        "with made as (insert into public.after_hours_matches (user_a, user_b, created_at, expires_at) "
        "select gen_random_uuid(), gen_random_uuid(), now() - interval '90 days', "
        "now() - %s * interval '24 hours' + n * interval '1 second' from generate_series(1, %s) as n "
        "returning id, user_a) "
        "insert into public.after_hours_messages (match_id, sender_id, body) "
        "select id, user_a, 'hi' from made cross join generate_series(1, %s)",
        (days, count, messages),
    )


def purge(connection: Connection, arguments: str = "") -> Any:
    """CALL purge and return the newest run as purge_history shows it; None if there is none."""
    connection.execute(f"CALL after_hours.purge({arguments})")
    return connection.execute(
        "select * from after_hours.purge_history where run_id is not null order by run_id desc limit 1"
    ).fetchone()


def value(connection: Connection, query: str, *parameters: object) -> Any:
    """The single value that a query returns."""
    row = connection.execute(query, parameters).fetchone()
    return None if row is None else row[0]


def ids(connection: Connection, query: str = "select id from public.after_hours_matches") -> set[UUID]:
    """The first column of a query's rows."""
    return {row[0] for row in connection.execute(query).fetchall()}


def messages_of(connection: Connection, match: UUID) -> int:
    """How many messages a match has."""
    return int(value(connection, "select count(*) from public.after_hours_messages where match_id = %s", match))


def notices(connection: Connection) -> list[str]:
    """A list that fills with the notices and warnings of a connection."""
    seen: list[str] = []
    connection.add_notice_handler(lambda notice: seen.append(notice.message_primary or ""))
    return seen
