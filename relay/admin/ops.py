"""The operations page, /ops: aggregates without user ids, as HTML for people and as JSON for programs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, JSONResponse, Response

from relay.admin.panels import about, is_good, panels, verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from relay.delivery.hub import Hub
    from relay.state import RelayState

HERE = Path(__file__).parent
STYLE, SCRIPT = ((HERE / f"ops.{kind}").read_text() for kind in ("css", "js"))
PAGE = Environment(
    loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
).get_template("ops.html")
FRESH_SECONDS = 2.0  # for which an answer of the database is kept for /ops, however many requests come


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)};"
    " connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
}


class Ops:
    """What /ops answers."""

    def __init__(self, hub: Hub, state: RelayState, fetch_status: Callable[[], Awaitable[str]]) -> None:
        self._hub = hub
        self._state, self._fetch_status = state, fetch_status
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._database: dict[str, Any] | None = None
        self._error: str | None = None  # why there is no answer of the database

    async def answer(self, request: Request) -> Response:
        """The page for a browser, JSON for everything else."""
        database, error = await self.status(FRESH_SECONDS)
        relay = self._relay()
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"relay": relay, "database": database, "error": error})
        return HTMLResponse(page(relay, database, error), headers=HEADERS)

    def _relay(self) -> dict[str, Any]:
        return {
            "node": self._hub.node,
            "state": self._state.name,
            "mode": self._state.mode,
            "reason": self._state.reason,
            "sockets": self._hub.count,
            "users": len(self._hub.users),
        }

    async def status(self, fresh_seconds: float) -> tuple[dict[str, Any] | None, str | None]:
        """relay_status(), at most so old, or why there is none."""
        loop = asyncio.get_running_loop()
        async with self._asking:
            if loop.time() - self._asked_at > fresh_seconds:
                try:
                    self._database, self._error = json.loads(await self._fetch_status()), None
                except ConnectionError as error:
                    self._database, self._error = None, str(error)
                self._asked_at = loop.time()
            return self._database, self._error


def page(relay: dict[str, Any], database: dict[str, Any] | None, error: str | None = None) -> str:
    """The whole page. error: why there is no answer of the database."""
    return PAGE.render(
        is_good=is_good(relay, database),
        verdict=verdict(relay, database, error),
        about=about(relay, database),
        panels=panels(database) if database else (),
        style=Markup(STYLE),  # noqa: S704 - our own file
        script=Markup(SCRIPT),  # noqa: S704 - our own file
    )
