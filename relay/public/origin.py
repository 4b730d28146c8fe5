"""Checks made before authentication; failures are HTTP responses: token in URL, disallowed origin, draining."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from relay.logs import RateLimitedLogger

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from relay.database.listener import Listener
    from relay.settings import Settings

PORTS = {"http": 80, "https": 443}

log = logging.getLogger("relay.origin")


class RequestPolicy:
    """Looks at URL and headers only."""

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self._settings = settings
        self._listener = listener
        self._log = RateLimitedLogger(log)

    def check_request(self, connection: HTTPConnection) -> tuple[int, str] | None:
        """The status and the word to refuse with; None if there is nothing against it."""
        query = connection.scope["query_string"] and connection.query_params.multi_items()
        if any(is_token(name, value) for name, value in query):
            return HTTPStatus.BAD_REQUEST, "token_in_url"
        if not self._is_allowed_origin(connection):
            self._log.warning(
                "origin refused: it is neither the Host that the relay was asked by nor in RELAY_ORIGINS"
                " (a proxy must pass on Host, with its port)",
                origin=connection.headers.get("origin", "")[:200], host=connection.headers.get("host", "")[:200],
            )  # fmt: skip
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
