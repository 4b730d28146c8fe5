"""Refuses by plain HTTP, before a token is looked at: tokens in URLs, foreign origins, all while draining."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from relay.database.listener import Listener
    from relay.settings import Settings

PORTS = {"http": 80, "https": 443}


class Door:
    """Looks at URL and headers only."""

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self._settings = settings
        self._listener = listener

    def problem(self, connection: HTTPConnection) -> tuple[int, str] | None:
        """The status and the word to refuse with; None: come in."""
        query = connection.scope["query_string"] and connection.query_params.multi_items()
        if any(is_token(name, value) for name, value in query):
            return HTTPStatus.BAD_REQUEST, "token_in_url"
        if not self._is_allowed_origin(connection):
            return HTTPStatus.FORBIDDEN, "origin"
        if self._listener.is_draining:
            return HTTPStatus.SERVICE_UNAVAILABLE, "draining"
        return None

    def _is_allowed_origin(self, connection: HTTPConnection) -> bool:
        origin = connection.headers.get("origin")
        if origin is None or origin in self._settings.origins:
            return True
        try:
            url = urlsplit(origin)
            host = urlsplit(f"{url.scheme}://{connection.headers.get('host', '')}")
            default = PORTS.get(url.scheme)
            return bool(url.hostname) and (url.hostname, url.port or default) == (
                host.hostname,
                host.port or default,
            )
        except ValueError:
            return False


def bearer(connection: HTTPConnection) -> str | None:
    """The token of the Authorization header; None if there is no such header."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def is_token(name: str, value: str) -> bool:
    """True for a query parameter that is, or might be, a token."""
    named = name.lower() in ("token", "access_token", "jwt", "auth", "authorization")
    return named or (value.count(".") == 2 and value.startswith("ey"))
