"""Serves the demo page on loopback and plays the application behind it; refuses a real secret."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from demo.tokens import NotADevelopmentSecret, development_secret, make_token

if TYPE_CHECKING:
    from starlette.requests import Request

PAGE = Path(__file__).parent / "page"


class Demo:
    """The page's few questions, answered as an application's server would answer them."""

    def __init__(self, *, secret: str, dsn: str, relay_port: int) -> None:
        self._secret = secret
        self._dsn = dsn
        self._relay_port = relay_port

    async def log_in(self, request: Request) -> JSONResponse:
        """A token for whoever the page says it is: that is what makes this a demo."""
        user_id = UUID((await request.json())["userId"])
        return JSONResponse({"token": make_token(self._secret, user_id), "relayPort": self._relay_port})

    async def start(self, request: Request) -> JSONResponse:
        """Start a session of so many seconds."""
        asked = await request.json()
        return await self._call(
            "select * from after_hours.start_session(%s, %s)",
            UUID(asked["userId"]),
            timedelta(seconds=float(asked["seconds"])),
        )

    async def extend(self, request: Request) -> JSONResponse:
        """Push a session's end so many seconds further away."""
        asked = await request.json()
        return await self._call(
            "select * from after_hours.extend_session(%s, %s)",
            UUID(asked["sessionId"]),
            timedelta(seconds=float(asked["seconds"])),
        )

    async def end(self, request: Request) -> JSONResponse:
        """End a session now."""
        asked = await request.json()
        return await self._call("select * from after_hours.end_session(%s, %s)", UUID(asked["sessionId"]), "left")

    async def _call(self, statement: str, *values: Any) -> JSONResponse:
        # A connection for each click: no pool to explain, and the page clicks rarely.
        try:
            async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
                await connection.execute(statement, values)
        except psycopg.Error as error:
            said = {"error": error.diag.message_primary or str(error), "hint": error.diag.message_hint}
            return JSONResponse(said, status_code=409)
        return JSONResponse({})


async def not_understood(_request: Request, error: Exception) -> JSONResponse:
    """A request that isn't what the page sends."""
    return JSONResponse({"error": f"not understood: {error}"}, status_code=400)


def make_app(demo: Demo) -> Starlette:
    """The page and its calls. A foreign page that rebinds its name to 127.0.0.1 fails on the host check."""
    return Starlette(
        routes=[
            Route("/log-in", demo.log_in, methods=["POST"]),
            Route("/start", demo.start, methods=["POST"]),
            Route("/extend", demo.extend, methods=["POST"]),
            Route("/end", demo.end, methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        exception_handlers={KeyError: not_understood, ValueError: not_understood, TypeError: not_understood},
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
    except NotADevelopmentSecret as refusal:
        sys.exit(str(refusal))
    except KeyError as missing:
        sys.exit(f"{missing.args[0]} is not set; ./dev up sets it and starts this page")
    uvicorn.run(make_app(demo), host="127.0.0.1", port=port, log_level="warning", access_log=False, ws="none")


if __name__ == "__main__":
    main()
