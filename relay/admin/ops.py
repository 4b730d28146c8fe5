"""The operations page: read-only, of aggregates; HTML for people, the same as JSON for programs. No user ids."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, JSONResponse, Response

from relay.admin.panels import sections

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from relay.delivery.hub import Hub
    from relay.state import RelayState

HTML, STYLE, SCRIPT = ((Path(__file__).parent / f"ops.{kind}").read_text() for kind in ("html", "css", "js"))
SHELL = Template(HTML)
FRESH_SECONDS = 2.0  # however many people look, the database is asked once in so long


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
        self._error: str | None = None  # why there is no database half

    async def answer(self, request: Request) -> Response:
        """The page for a browser, JSON for everything else."""
        database, error = await self._status()
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

    async def _status(self) -> tuple[dict[str, Any] | None, str | None]:
        loop = asyncio.get_running_loop()
        async with self._asking:
            if loop.time() - self._asked_at > FRESH_SECONDS:
                try:
                    self._database, self._error = json.loads(await self._fetch_status()), None
                except ConnectionError as error:
                    self._database, self._error = None, str(error)
                self._asked_at = loop.time()
            return self._database, self._error


def page(relay: dict[str, Any], database: dict[str, Any] | None, error: str | None = None) -> str:
    """The whole page. error: why there is no database half."""
    return SHELL.substitute(
        title=f"{'' if is_good(relay, database) else '✗ '}After Hours operations",
        style=STYLE,
        main=verdict(relay, database, error) + "".join(sections(database) if database else ()),
        script=SCRIPT,
    )


def is_good(relay: dict[str, Any], database: dict[str, Any] | None) -> bool:
    """True if nobody has to do anything."""
    return relay["state"] == "live" and database is not None and all(check["ok"] for check in database["health"])


def verdict(relay: dict[str, Any], database: dict[str, Any] | None, error: str | None = None) -> str:
    """The one sentence, and which relay says it."""
    if database is None:
        text = (
            f"The database did not answer this page: {error or relay['reason']}. To find out why: python -m relay check"
        )
    else:
        bad = sum(not check["ok"] for check in database["health"])
        count = len(database["health"])
        text = f"{bad} of {count} checks not good" if bad else f"All {count} checks are good"
        if relay["state"] != "live":
            text += f"; this relay is {relay['state']}: {relay['reason']}"
    about = f"relay {relay['node']}: {relay['state']}, {relay['reason']}; "
    about += f"{relay['sockets']} sockets of {relay['users']} users"
    if database is not None:
        about += f"; database time {database['serverTime']}, PostgreSQL {database['serverVersion']}"
    return (
        f'<p id="verdict" class="{"good" if is_good(relay, database) else "bad"}">{escape(text)}</p>'
        f'<p class="dim">{escape(about)}</p>'
    )
