"""One instance with everything ./dev up starts, for the tests that look from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Instance


@pytest.fixture(scope="session")
def running(make_instance: Callable[..., Instance]) -> Instance:
    """PostgreSQL with pg_cron's loops, the relay, the demo page."""
    return make_instance("up", "--detach")
