"""The tests of test_events and test_sockets, repeated with stock WebSockets."""

from __future__ import annotations

import pytest

from tests.relay import test_events, test_sockets
from tests.relay.conftest import StartRelay


@pytest.fixture
def start_relay(start_relay: StartRelay) -> StartRelay:
    """Relays with stock sockets."""

    async def start(**settings: object) -> object:
        return await start_relay(**{"sockets": "stock", **settings})

    return start  # type: ignore[return-value]


for module in (test_events, test_sockets):
    globals().update({name: value for name, value in vars(module).items() if name.startswith("test_")})
