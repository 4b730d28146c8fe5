"""The kinds of WebSocket (RELAY_SOCKETS), and the one place that chooses between them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from relay.websocket.push import PushProtocol
from relay.websocket.selftest import run_selftest
from relay.websocket.stock import StockProtocol

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS: Mapping[str, type[PushProtocol] | type[StockProtocol]] = {"push": PushProtocol, "stock": StockProtocol}

log = logging.getLogger("relay.kinds")


async def select_kind(name: str, http: Any) -> type[PushProtocol] | type[StockProtocol]:
    """The protocol class for uvicorn's Config(ws=…). push is checked first, with `http`; stock replaces it if it fails.

    http: what Config(http=…) is given.
    """
    if name == "push":
        try:
            await run_selftest(http, PushProtocol)
        except Exception as error:
            log.error("the self-test of push failed: serving stock", extra={"error": repr(error)})
            return StockProtocol
    return KINDS[name]
