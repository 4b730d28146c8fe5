"""Connects to one host of RELAY_DSN, through whatever stands in between, and says why it did not work.

A pooler may know fewer start-up parameters than PostgreSQL: what it refuses is set after connecting. A pooler by
transaction gives each transaction another backend: it is recognised before anything is prepared or set there.
"""

from __future__ import annotations

import logging
import re
import ssl
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.connect_utils import SessionAttribute

if TYPE_CHECKING:
    from relay.dsn import Host
    from relay.settings import Settings

log = logging.getLogger("relay.database")

CALL_SECONDS = 2.5  # a call that takes longer counts as a dead server
KEEPALIVES = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
REFUSED_AT_START = (asyncpg.ProtocolViolationError, asyncpg.FeatureNotSupportedError)
OPTION = re.compile(r"(?:-c\s*|--)([\w.\-]+)=((?:\\.|[^\s\\])*)")
BACKENDS_COMPARED = 3  # times that two connections are asked for their backend
# of the backend that answers: its process, whether it is no primary, whether it writes
BACKEND = (
    "select pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(),"
    " pg_catalog.current_setting('transaction_read_only')::boolean"
)


class Connector:
    """Makes connections to one host. Remembers what it found, so that it is tried once only.

    is_pooled: by transaction. Then nothing may be prepared, each call must be a transaction of its own, and
    `local_settings` are set in each.
    """

    def __init__(self, host: Host, settings: Settings) -> None:
        self.host = host
        self.is_pooled = False
        self._seconds = host.connect_seconds or settings.connect_seconds
        self._name = host.get("application_name") or f"after-hours relay {settings.node}"[:63]
        self._options = host.get("options") or ""
        name = {"application_name": self._name}
        everything = {**name, **KEEPALIVES} | ({"options": self._options} if self._options else {})
        self._at_start: list[dict[str, str]] = [everything, name, {}]
        self._refused = 0  # of these

    @property
    def local_settings(self) -> dict[str, str]:
        """Settings of RELAY_DSN that were refused at the start."""
        return {} if "options" in self._at_start[self._refused] else settings_of(self._options)

    async def open_pair(self) -> tuple[asyncpg.Connection[Any], asyncpg.Connection[Any]]:
        """Two connections to a primary. Raises what asyncpg, the network or the clock raise."""
        first = await self._open()
        try:
            second = await self._open()
        except BaseException:
            first.terminate()
            raise
        try:
            if not self.is_pooled and await shares_backends(first, second):
                self.is_pooled = True
                log.warning(
                    "a transaction pooler is in between: polling every second, nothing prepared",
                    extra={"host": self.host.name},
                )
            else:
                await self._set_up(first)
                await self._set_up(second)
                return first, second
        except BaseException:
            first.terminate()
            second.terminate()
            raise
        first.terminate()
        second.terminate()
        return await self.open_pair()

    async def open_one(self) -> asyncpg.Connection[Any]:
        """One connection more, after open_pair()."""
        connection = await self._open()
        try:
            await self._set_up(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _open(self) -> asyncpg.Connection[Any]:
        host = self.host
        arguments: dict[str, Any] = {
            "host": host.address,
            "port": int(host.get("port") or 5432),
            "user": host.get("user"),
            "password": host.get("password"),
            "database": host.get("dbname"),
            "ssl": host.tls_context(),
            "krbsrvname": host.get("krbsrvname"),
            "timeout": self._seconds,
            "command_timeout": CALL_SECONDS,
            "statement_cache_size": 0 if self.is_pooled else 100,
            "target_session_attrs": SessionAttribute.any,
        }
        for number in range(self._refused, len(self._at_start)):
            try:
                connection: asyncpg.Connection[Any] = await asyncpg.connect(
                    host.tls_url(), **arguments, server_settings=self._at_start[number]
                )
            except REFUSED_AT_START as error:
                refused = error
            else:
                if number != self._refused:
                    log.info(
                        "refused at the start; what matters is set after connecting", extra={"reason": str(refused)}
                    )
                    self._refused = number
                return connection
        raise refused

    async def _set_up(self, connection: asyncpg.Connection[Any]) -> None:
        """Check that it is a primary, and set what was refused at the start."""
        _process, is_standby, is_read_only = await backend_of(connection)
        if is_standby or is_read_only:
            problem = "is a standby, not a primary" if is_standby else "is read-only (default_transaction_read_only)"
            raise asyncpg.TargetServerAttributeNotMatched(problem)
        if self.is_pooled:
            return  # settings of a session would reach other clients of the pooler
        missing = {"application_name": self._name, **self.local_settings}
        for name in missing.keys() - self._at_start[self._refused].keys():
            await connection.fetch("select pg_catalog.set_config($1, $2, false)", name, missing[name])


async def backend_of(connection: asyncpg.Connection[Any]) -> tuple[int, bool, bool]:
    """Process id of the backend that answers, whether it is a standby, whether it is read-only.

    Leaves no named statement behind, and is one transaction, so that it works through any pooler.
    """
    async with connection.transaction():
        statement = await connection.prepare(BACKEND, name="")
        row = await statement.fetchrow()
    assert row is not None
    return row[0], row[1], row[2]


async def shares_backends(first: asyncpg.Connection[Any], second: asyncpg.Connection[Any]) -> bool:
    """True if a pooler gives each transaction another backend: two connections meet, or one changes its backend."""
    process = (await backend_of(first))[0]
    for _ in range(BACKENDS_COMPARED):
        if (await backend_of(second))[0] == process or (await backend_of(first))[0] != process:
            return True
        if first.get_server_pid() == process:  # nothing is in between
            return False
    return False


def settings_of(options: str) -> dict[str, str]:
    """The settings in libpq's `options`: -c NAME=VALUE or --NAME=VALUE, blanks in values behind a backslash."""
    found = OPTION.findall(options)
    return {name.replace("-", "_"): re.sub(r"\\(.)", r"\1", value) for name, value in found}


def explain_failure(error: BaseException) -> str:
    """Why there is no connection, in one line, with what to do where that is known."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {error.verify_message} (sslrootcert: its authority's file)"
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:300]
