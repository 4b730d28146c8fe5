"""Checks made before authentication; failures are HTTP responses: token in URL, disallowed origin, draining."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from relay.logs import RateLimitedLogger

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from relay.settings import Settings
    from relay.state import RelayState

PORTS = {"http": 80, "https": 443}

log = logging.getLogger("relay.origin")


class RequestPolicy:
    """Checks of the URL and the headers of a request."""

    def __init__(self, settings: Settings, state: RelayState) -> None:
        self._settings = settings
        self._state = state
        self._log = RateLimitedLogger(log)

    def check_request(self, connection: HTTPConnection) -> tuple[int, str] | None:
        """The HTTP status and the reason to refuse with; None if the request passes."""
        query = connection.query_params.multi_items() if connection.scope["query_string"] else ()
        if any(is_token(name, value) for name, value in query):
            return HTTPStatus.BAD_REQUEST, "token_in_url"
        if not self._is_allowed_origin(connection):
            self._log.warning(
                "origin refused: it is neither the Host that the relay was asked by nor in RELAY_ORIGINS"
                " (a proxy must pass on Host, with its port)",
                origin=connection.headers.get("origin", "")[:200], host=connection.headers.get("host", "")[:200],
            )  # fmt: skip
            return HTTPStatus.FORBIDDEN, "origin"
        if self._state.is_draining:
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


def is_token(name: str, value: str) -> bool:
    """True for a query parameter that is, or might be, a token."""
    named = name.lower() in ("token", "access_token", "jwt", "auth", "authorization")
    return named or (value.count(".") == 2 and value.startswith("ey"))
