"""Database access of the scenario, by two connections: the application's role and an operator (superuser)."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString, Self
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import namedtuple_row

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from demo.console import Table

MESSAGES = 4  # in each match


@dataclass(frozen=True)
class Session:
    """A session as the application sees it. `deadline`: the earlier of ended_at and expires_at."""

    id: UUID
    started: datetime
    deadline: datetime


def _session(row: Any) -> Session:
    return Session(row.id, row.started_at, min(row.ended_at or row.expires_at, row.expires_at))


class Database:
    """Two autocommit connections. Raises the errors of psycopg."""

    def __init__(self, *, app: str, superuser: str) -> None:
        self._dsn = {"app": app, "operator": superuser}
        self._connections: dict[str, psycopg.AsyncConnection[Any]] = {}
        self._stack = AsyncExitStack()
        self._notices: list[str] = []

    async def __aenter__(self) -> Self:
        for name, dsn in self._dsn.items():
            connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, row_factory=namedtuple_row)
            self._connections[name] = await self._stack.enter_async_context(connection)
        self._connections["operator"].add_notice_handler(self._note)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        self._notices.append(f"{notice.severity}:  {notice.message_primary}")

    async def _app(self, statement: LiteralString, *values: Any) -> Any:
        cursor = await self._connections["app"].execute(statement, values)
        return await cursor.fetchone() if cursor.description else None

    # ---- as the application

    async def insert_session(self, user: UUID, *, started: datetime, ends: datetime) -> Session:
        """Insert a session by plain DML, as an application can do instead of calling the functions."""
        return _session(
            await self._app(
                "insert into public.after_hours_sessions (id, user_id, started_at, expires_at)"
                " values (%s, %s, %s, %s) returning *",
                uuid4(), user, started, ends,
            )
        )  # fmt: skip

    async def start_session(self, user: UUID, length: timedelta) -> Session:
        """Start a session now."""
        return _session(await self._app("select * from after_hours.start_session(%s, %s)", user, length))

    async def extend_session(self, session: Session, by: timedelta) -> Session:
        """Extend a session."""
        return _session(await self._app("select * from after_hours.extend_session(%s, %s)", session.id, by))

    async def end_session(self, session: Session) -> Session:
        """End a session now."""
        return _session(await self._app("select * from after_hours.end_session(%s, 'left')", session.id))

    async def insert_match(self, *, expired: timedelta) -> UUID:
        """Insert a match that expired `expired` ago, with MESSAGES messages."""
        match, (ana, ben) = uuid4(), (uuid4(), uuid4())
        await self._app(
            "insert into public.after_hours_matches (id, user_a, user_b, created_at, expires_at)"
            " values (%s, %s, %s, now() - %s - interval '1 hour', now() - %s)",
            match, ana, ben, expired, expired,
        )  # fmt: skip
        await self._app(
            "insert into public.after_hours_messages (match_id, sender_id, body)"
            " select %s, %s, 'good night' from generate_series(1, %s)",
            match, ana, MESSAGES,
        )  # fmt: skip
        return match

    async def save_match(self, match: UUID) -> None:
        """Save a match."""
        await self._app("select after_hours.save_match(%s, %s)", match, uuid4())

    # ---- as the operator

    async def query(self, statement: LiteralString, *values: Any) -> Table:
        """Run a statement and return column names and rows; for a CALL, its notices as rows."""
        self._notices.clear()
        cursor = await self._connections["operator"].execute(statement, values)
        if cursor.description is None:
            return (), [(line,) for line in self._notices]
        return [column.name for column in cursor.description], await cursor.fetchall()

    async def message_counts(self) -> dict[UUID, int]:
        """Return the number of messages of each existing match."""
        _, rows = await self.query(
            "select m.id, (select count(*) from public.after_hours_messages as g where g.match_id = m.id)"
            " from public.after_hours_matches as m"
        )
        return {row[0]: row[1] for row in rows}

    async def column(self, statement: LiteralString) -> list[Any]:
        """Return the first column of a query."""
        return [row[0] for row in (await self.query(statement))[1]]
