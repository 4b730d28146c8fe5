"""What every request of the admin address passes: a check of its Host header against DNS rebinding.

A page of evil.example whose name is made to resolve to this address would be of the same origin for a browser, and
could read /ops and /metrics. Its requests carry Host: evil.example, so only names that no page of the internet can
have are accepted: IP addresses, names without a dot (localhost, a container's), and the host of RELAY_ADMIN_BIND.
Starlette's TrustedHostMiddleware has patterns of names, but none for IP addresses.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from relay.settings import split_address

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Guard:
    """ASGI middleware: 403 for a foreign Host; every answer says that its type is not to be guessed."""

    def __init__(self, app: ASGIApp, bind: str) -> None:
        self._app = app
        self._bind_host = split_address(bind)[0].lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        host = Headers(scope=scope).get("host")
        if host is None or self._is_ours(host):  # browsers always send one; probes of HTTP/1.0 may not
            await self._app(scope, receive, send_marked)
        else:
            await JSONResponse({"error": "host"}, status_code=403)(scope, receive, send_marked)

    def _is_ours(self, header: str) -> bool:
        try:
            host = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        if host == self._bind_host or "." not in host.removesuffix("."):
            return True  # an IPv6 address has no dot, or is read below
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True
