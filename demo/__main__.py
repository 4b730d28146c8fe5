"""Web server of the demo page, on loopback. Acts as the application's server; accepts development secrets only."""

from __future__ import annotations

import os
import sys
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import uvicorn
from psycopg.rows import namedtuple_row
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from demo.tokens import NotADevelopmentSecret, development_secret, make_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

HERE = Path(__file__).parent
Connection = psycopg.AsyncConnection[Any]


class Demo:
    """Handlers for the requests of the page, as an application server would have them."""

    def __init__(self, *, secret: str, dsn: str, relay_port: int) -> None:
        self._secret = secret
        self._dsn = dsn
        self._relay_port = relay_port

    async def log_in(self, request: Request) -> JSONResponse:
        """Return a token for the user id that the page sends, without any authentication."""
        user_id = UUID(str((await request.json())["userId"]))
        return JSONResponse({"token": make_token(self._secret, user_id), "relayPort": self._relay_port})

    async def start(self, request: Request) -> JSONResponse:
        """Start a session of `seconds`, and create the match that its chat belongs to."""
        body = await request.json()
        user_id = UUID(str(body["userId"]))
        length = timedelta(seconds=float(body["seconds"]))

        async def do(connection: Connection) -> dict[str, Any]:
            session = await one(connection, "select * from after_hours.start_session(%s, %s)", user_id, length)
            match = await one(
                connection,
                "insert into public.after_hours_matches (id, user_a, user_b, created_at, expires_at)"
                " values (%s, %s, %s, now(), %s) returning id",
                uuid4(), user_id, uuid4(), session.expires_at,
            )  # fmt: skip
            return {"session": as_json(session), "matchId": str(match.id)}

        return await self._run(do)

    async def extend(self, request: Request) -> JSONResponse:
        """Extend a session by `seconds`."""
        body = await request.json()
        session_id = UUID(str(body["sessionId"]))
        by = timedelta(seconds=float(body["seconds"]))

        async def do(connection: Connection) -> dict[str, Any]:
            session = await one(connection, "select * from after_hours.extend_session(%s, %s)", session_id, by)
            return {"session": as_json(session)}

        return await self._run(do)

    async def end(self, request: Request) -> JSONResponse:
        """End a session now."""
        session_id = UUID(str((await request.json())["sessionId"]))

        async def do(connection: Connection) -> dict[str, Any]:
            session = await one(connection, "select * from after_hours.end_session(%s, 'left')", session_id)
            return {"session": as_json(session)}

        return await self._run(do)

    async def save(self, request: Request) -> JSONResponse:
        """Save a match, which excludes it from the purge."""
        match_id = UUID(str((await request.json())["matchId"]))

        async def do(connection: Connection) -> dict[str, Any]:
            match = await one(connection, "select * from after_hours.save_match(%s, %s)", match_id, uuid4())
            return {"savedAs": str(match.converted_to_match_id)}

        return await self._run(do)

    async def _run(self, do: Callable[[Connection], Awaitable[dict[str, Any]]]) -> JSONResponse:
        # One connection for each request: requests are rare, and a pool would need more code.
        try:
            async with await Connection.connect(self._dsn, row_factory=namedtuple_row) as connection:
                return JSONResponse(await do(connection))
        except psycopg.Error as error:
            problem = {"error": error.diag.message_primary or str(error), "hint": error.diag.message_hint}
            return JSONResponse(problem, status_code=409)


async def one(connection: Connection, statement: LiteralString, *values: Any) -> Any:
    """Return the first row of a statement."""
    return await (await connection.execute(statement, values)).fetchone()


def as_json(session: Any) -> dict[str, str]:
    """Convert a session row to the field names of the relay's frames. ended_at is not included."""
    expires_at = session.expires_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"sessionId": str(session.id), "expiresAt": expires_at}


async def client(_request: Request) -> FileResponse:
    """Serve the browser client."""
    return FileResponse(HERE.parent / "clients" / "browser" / "after-hours.js")


async def bad_request(_request: Request, error: Exception) -> JSONResponse:
    """Answer a malformed request with 400."""
    return JSONResponse({"error": f"not understood: {error}"}, status_code=400)


def make_app(demo: Demo) -> Starlette:
    """Build the ASGI application. The host check stops DNS rebinding by pages of other origins."""
    return Starlette(
        routes=[
            Route("/log-in", demo.log_in, methods=["POST"]),
            Route("/start", demo.start, methods=["POST"]),
            Route("/extend", demo.extend, methods=["POST"]),
            Route("/end", demo.end, methods=["POST"]),
            Route("/save", demo.save, methods=["POST"]),
            Route("/after-hours.js", client),
            Mount("/", StaticFiles(directory=HERE / "page", html=True)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        exception_handlers={KeyError: bad_request, ValueError: bad_request, TypeError: bad_request},
    )


def main() -> None:
    """Serve until stopped. Settings: RELAY_JWT_SECRET, DEMO_DSN, DEMO_PORT, RELAY_PORT."""
    try:
        demo = Demo(
            secret=development_secret(),
            dsn=os.environ["DEMO_DSN"],
            relay_port=int(os.environ["RELAY_PORT"]),
        )
        port = int(os.environ["DEMO_PORT"])
    except NotADevelopmentSecret as error:
        sys.exit(str(error))
    except KeyError as missing:
        sys.exit(f"{missing.args[0]} is not set; ./dev up sets it and starts this page")
    uvicorn.run(make_app(demo), host="127.0.0.1", port=port, log_level="warning", access_log=False, ws="none")


if __name__ == "__main__":
    main()
