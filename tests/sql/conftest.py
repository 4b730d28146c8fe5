"""Two people: logins that are members of after_hours_moderator and of after_hours_dba."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection, Instance


@pytest.fixture(scope="session", autouse=True)
def people(instance: Instance) -> None:
    """Makes after_hours_moderator_login and after_hours_dba_login."""
    with instance.connect() as connection:
        for role in ("moderator", "dba"):
            connection.execute(f"create role after_hours_{role}_login login in role after_hours_{role}")


@pytest.fixture
def login(connect: Callable[..., Connection]) -> Callable[..., Connection]:
    """Connections of those people: session_user is the login, which has its group's rights and no others."""

    def make(role: str, **options: Any) -> Connection:
        connection = connect(**options)
        connection.execute(f"set session authorization {role}")
        return connection

    return make


@pytest.fixture(scope="module")
def prepared(make_instance: Callable[..., Instance]) -> Instance:
    """An instance that allows prepared transactions, without jobs."""
    made = make_instance("cluster")
    with made.connect() as db:
        db.execute("alter system set max_prepared_transactions = 40")
        db.execute("alter system set max_connections = 60")
        db.execute("select after_hours.uninstall_jobs()")
    made.dev("down")
    made.dev("cluster")
    made.stop_jobs()
    return made
