"""Rows of the relay's functions as types of records.py. Each checks the shape and raises UnexpectedAnswer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from relay.database.faults import UnexpectedAnswer
from relay.frames import text_frame
from relay.records import CURSOR, AttachResult, Block, Cursor, Event, Page, Rescued, Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.records import AttachRequest

Kind = TypeVar("Kind")
Row = Any  # an asyncpg.Record: its columns are what is to be checked


def need(value: object, kind: type[Kind], what: str) -> Kind:
    """The value, which has to be of this kind."""
    if not isinstance(value, kind):
        raise UnexpectedAnswer(f"{what} is {value!r:.80}, not {kind.__name__}")
    return value


def optional(value: object, kind: type[Kind], what: str) -> Kind | None:
    """The value, which has to be of this kind or null."""
    return None if value is None else need(value, kind, what)


def one_of(value: object, words: Sequence[str], what: str) -> str:
    """The value, which has to be one of these words."""
    if value not in words:
        raise UnexpectedAnswer(f"{what} is {value!r:.80}")
    return str(value)


def one_row(rows: Sequence[Row]) -> Row:
    """The row of a function that answers with one."""
    if len(rows) != 1:
        raise UnexpectedAnswer(f"{len(rows)} rows")
    return rows[0]


def text_of(rows: Sequence[Row]) -> str:
    """The one value of a function that answers with text."""
    return need(rows[0][0], str, "the answer")


def cursor_of(value: object) -> Cursor:
    """The value, which has to be a cursor."""
    if not isinstance(value, str) or not CURSOR.fullmatch(value):
        raise UnexpectedAnswer(f"a cursor is {value!r:.80}")
    return Cursor(value)


def event_of(user: object, *columns: object, known_ahead: object = False) -> Event:
    """One event: user, id, uid, cursor, body, due_at, emitted_at."""
    id_, uid, cursor, body, due_at, emitted_at = columns
    return Event(
        need(id_, int, "an event's id"),
        need(uid, UUID, "an event's uid"),
        need(user, UUID, "an event's user"),
        cursor_of(cursor),
        text_frame(need(body, str, "an event's body")),
        need(due_at, datetime, "an event's due_at"),
        need(emitted_at, datetime, "an event's emitted_at"),
        need(known_ahead, bool, "an event's known_ahead"),
    )


def page_of(rows: Sequence[Row], asked: Cursor | None) -> Page:
    """The answer of relay_events to a cursor."""
    if not rows or rows[0]["kind"] != "head":
        raise UnexpectedAnswer("no head row")
    head = rows[0]
    page = Page(
        need(head["incarnation"], str, "incarnation"),
        one_of(head["start"], ("fresh", "replayed", "reset"), "start"),
        cursor_of(head["cursor"]),
        need(head["more"], bool, "more"),
    )
    if page.more and (page.start != "replayed" or page.cursor == asked):
        raise UnexpectedAnswer(f"more is true, and there is no progress from {asked}")
    for row in rows[1:]:
        if row["kind"] == "event":
            columns = (row[name] for name in ("id", "uid", "cursor", "body", "due_at", "emitted_at"))
            page.events.append(event_of(row["user_id"], *columns, known_ahead=row["known_ahead"]))
        else:
            one_of(row["kind"], ("block",), "kind")
            page.blocks.append(
                Block(
                    need(row["user_id"], UUID, "a block's user"),
                    optional(row["issued_before"], datetime, "issued_before"),
                    optional(row["blocked_ms"], int, "blocked_ms"),
                )
            )
    return page


def results_of(rows: Sequence[Row], requests: Sequence[AttachRequest]) -> list[AttachResult]:
    """The answer of relay_attach: one row per question, in order."""
    if [row["ord"] for row in rows] != list(range(1, len(requests) + 1)):
        raise UnexpectedAnswer(f"{len(rows)} rows for {len(requests)} questions")
    return [result_of(row, request.user) for row, request in zip(rows, requests, strict=True)]


def result_of(row: Row, user: UUID) -> AttachResult:
    """One user's row of relay_attach."""
    start = one_of(row["start"], ("fresh", "replayed", "reset", "blocked"), "start")
    state = optional(row["state"], str, "state")
    if (state is None) is not (start == "blocked") or (state and not (state[0] == "{" and state[-1] == "}")):
        raise UnexpectedAnswer(f"state is {state!r:.80} where start is {start}")
    columns = [row[name] or () for name in ("ids", "uids", "cursors", "bodies", "due_ats", "emitted_ats")]
    if len({len(column) for column in columns}) != 1:
        raise UnexpectedAnswer("arrays of different length")
    return AttachResult(
        need(row["incarnation"], str, "incarnation"),
        need(row["head"], int, "head"),
        start,
        cursor_of(row["cursor"]),
        state,
        optional(row["blocked_ms"], int, "blocked_ms"),
        [event_of(user, *missed) for missed in zip(*columns, strict=True)],
    )


def wanted_of(rows: Sequence[Row]) -> Wanted:
    """The answer of relay_beat."""
    row = one_row(rows)
    return Wanted(
        need(row["wants_rescue"], bool, "wants_rescue"),
        need(row["wants_receipts"], bool, "wants_receipts"),
        optional(row["heartbeat_age"], timedelta, "heartbeat_age"),
        need(row["queue_usage"], float, "queue_usage"),
    )


def rescued_of(rows: Sequence[Row]) -> Rescued:
    """The answer of relay_rescue."""
    row = one_row(rows)
    return Rescued(
        need(row["expired"], int, "expired"),
        need(row["expiring"], int, "expiring"),
        need(row["skipped"], int, "skipped"),
        need(row["has_more"], bool, "has_more"),
    )
