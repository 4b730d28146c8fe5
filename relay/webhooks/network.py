"""HTTP connections to public addresses only: what a target's name resolves to is checked before it is connected to.

The address that was checked is the one that is used, so that an answer of DNS that changes in between has no effect. A
host that was allowed by name may have any address; http:// is for allowed hosts on loopback.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

import httpcore
import httpx

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address
CONNECTIONS = 200


class ForbiddenAddress(httpcore.ConnectError):
    """The host has an address that may not be connected to; str() names both."""


def addresses_in(address: Address) -> list[Address]:
    """What the address leads to: an IPv6 address may carry IPv4 addresses (mapped, NAT64, 6to4, Teredo)."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None or address in NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    carried = (address.sixtofour, *(address.teredo or ()))
    return [address, *(each for each in carried if each is not None)]


def is_public(address: Address) -> bool:
    """True if it stands for nothing private, loopback, link-local, multicast or reserved."""
    return all(each.is_global and not (each.is_multicast or each.is_reserved) for each in addresses_in(address))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, checks each address, connects to the first that answers."""

    def __init__(self, allowed: Set[str], only_loopback: bool) -> None:
        self._allowed = allowed
        self._only_loopback = only_loopback
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect. Raises ForbiddenAddress, httpcore.ConnectError, httpcore.ConnectTimeout."""
        addresses = await self._resolve(host, port)
        error: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._backend.sleep(seconds)

    async def _resolve(self, host: str, port: int) -> list[Address]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host}: {error.strerror or error}") from None
        addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
        is_allowed = host.lower().strip("[]") in self._allowed
        for address in addresses:
            if self._only_loopback and not (is_allowed and address.is_loopback):
                raise ForbiddenAddress(f"{host} is {address}: http:// is for loopback, allowed by --allow-host {host}")
            if not is_allowed and not is_public(address):
                raise ForbiddenAddress(f"{host} is {address}, not a public address; to allow it: --allow-host {host}")
        return addresses


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx over GuardedBackend: httpx has no argument for the backend of its pool."""

    def __init__(self, allowed: Set[str], only_loopback: bool) -> None:
        super().__init__(trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=True),  # SSL_CERT_FILE: a company's own authority
            max_connections=CONNECTIONS,
            keepalive_expiry=10,
            network_backend=GuardedBackend(allowed, only_loopback),
        )


def make_client(allowed: Iterable[str]) -> httpx.AsyncClient:
    """A client without proxies, redirects and cookies of the environment. allowed: hosts that may have any address."""
    names = {each.lower().strip("[]") for each in allowed}
    return httpx.AsyncClient(
        mounts={
            "http://": GuardedTransport(names, only_loopback=True),
            "https://": GuardedTransport(names, only_loopback=False),
        },
        trust_env=False,
        follow_redirects=False,
        headers={"user-agent": "after-hours-push"},
    )
