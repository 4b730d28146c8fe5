"""The story's two seats at the database: the application's, in its role, and that of whoever is on duty."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString, Self
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import namedtuple_row

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from demo.stage import Table

MESSAGES = 4  # in each match


@dataclass(frozen=True)
class Session:
    """A session as the application knows it."""

    id: UUID
    started: datetime
    deadline: datetime


def _session(row: Any) -> Session:
    return Session(row.id, row.started_at, min(row.ended_at or row.expires_at, row.expires_at))


class Database:
    """Two autocommit connections. Errors are psycopg's own."""

    def __init__(self, *, app: str, superuser: str) -> None:
        self._dsn = {"app": app, "duty": superuser}
        self._seat: dict[str, psycopg.AsyncConnection[Any]] = {}
        self._stack = AsyncExitStack()
        self._notices: list[str] = []

    async def __aenter__(self) -> Self:
        for seat, dsn in self._dsn.items():
            connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, row_factory=namedtuple_row)
            self._seat[seat] = await self._stack.enter_async_context(connection)
        self._seat["duty"].add_notice_handler(self._note)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _note(self, said: psycopg.errors.Diagnostic) -> None:
        self._notices.append(f"{said.severity}:  {said.message_primary}")

    async def _app(self, statement: LiteralString, *values: Any) -> Any:
        cursor = await self._seat["app"].execute(statement, values)
        return await cursor.fetchone() if cursor.description else None

    # ---- the application

    async def insert_session(self, user: UUID, *, started: datetime, ends: datetime) -> Session:
        """A session written by plain DML, as an application does that doesn't call our functions."""
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
        """Move its end."""
        return _session(await self._app("select * from after_hours.extend_session(%s, %s)", session.id, by))

    async def end_session(self, session: Session) -> Session:
        """End it now."""
        return _session(await self._app("select * from after_hours.end_session(%s, 'left')", session.id))

    async def insert_match(self, *, expired: timedelta) -> UUID:
        """A match that expired so long ago, with its messages."""
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
        """Both want to keep it."""
        await self._app("select after_hours.save_match(%s, %s)", match, uuid4())

    # ---- whoever is on duty

    async def ask(self, statement: LiteralString, *values: Any) -> Table:
        """A statement and its rows, as psql would show them; a CALL's notices are its rows."""
        self._notices.clear()
        cursor = await self._seat["duty"].execute(statement, values)
        if cursor.description is None:
            return (), [(line,) for line in self._notices]
        return [column.name for column in cursor.description], await cursor.fetchall()

    async def message_counts(self) -> dict[UUID, int]:
        """Messages of each match that is still there."""
        _, rows = await self.ask(
            "select m.id, (select count(*) from public.after_hours_messages as g where g.match_id = m.id)"
            " from public.after_hours_matches as m"
        )
        return {row[0]: row[1] for row in rows}

    async def column(self, statement: LiteralString) -> list[Any]:
        """The first column of a query."""
        return [row[0] for row in (await self.ask(statement))[1]]
