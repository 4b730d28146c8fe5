"""Limits on connections and handshakes: global and per client address.

One admission for every request, whatever it asks for: the address first (how many connections, how fast), then all. A
request that is refused for its address takes nothing from the others. A connection of a peer that is no trusted proxy
counts for its address from its first moment; behind a trusted proxy the forwarded address counts, once it is known.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import re
import resource
from typing import TYPE_CHECKING

from relay.logs import RateLimitedLogger
from relay.protocol import jitter_ms
from relay.token_bucket import TokenBucket

if TYPE_CHECKING:
    from relay.settings import Settings

RESERVE = 150  # file descriptors that are not for clients: files, database, refusals
MAX_REFUSED = 64  # connections kept open for a moment so that their refusal is read; less than half of RESERVE
BURST_SECONDS = 3.0  # of requests that may come at once after a quiet time
REFILL_SECONDS = 10.0  # in which an address may come back with all of its connections
UNREADABLE_SHARE = 10  # addresses' limits that all clients whose forwarded address can't be read have together
NETWORK_SHARE = 16  # addresses' limits that one IPv6 /48 has: as many customers, each with a /64
UNREADABLE = "unreadable"
# What the log says of each reason, once a minute. A refused proxy's head, which would tell that it is one, is not read.
TOLD = {
    "address_full": "connections of one address are refused: it has RELAY_MAX_SOCKETS_PER_ADDRESS of them"
    " (a proxy of yours? add it to RELAY_TRUSTED_PROXIES)",
    "address_rate": "connections of one address are refused: they come too fast for RELAY_MAX_SOCKETS_PER_ADDRESS"
    " (a proxy of yours? add it to RELAY_TRUSTED_PROXIES)",
    "full": "connections are refused: there are as many as file descriptors for RELAY_MAX_SOCKETS",
    "handshake_rate": "requests are refused: they come faster than RELAY_MAX_HANDSHAKES",
}

log = logging.getLogger("relay.limits")


class LimitExceeded(Exception):
    """Too many or too fast: a word for metrics, and when to come back."""

    def __init__(self, reason: str, retry_ms: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_ms = retry_ms


class AddressUsage:
    """What the connections of one address, or of one network, use: one object for all of them."""

    __slots__ = ("bucket", "count", "limit", "network")

    def __init__(self, limit: float, bucket: TokenBucket | None, network: AddressUsage | None = None) -> None:
        self.limit, self.bucket, self.network = limit, bucket, network
        self.count = 0

    def acquire(self, now: float) -> AddressUsage:
        """Count one connection more, to be released once. Raises LimitExceeded."""
        if self.count >= self.limit:
            raise LimitExceeded("address_full", jitter_ms(10_000, 60_000))
        if self.bucket is not None and not self.bucket.take(now):
            raise LimitExceeded("address_rate", jitter_ms(2000, 10_000))
        if self.network is not None:
            self.network.acquire(now)
        self.count += 1
        return self

    def release(self) -> None:
        """One of the connections is gone."""
        self.count -= 1
        if self.network is not None:
            self.network.release()

    def is_idle(self, now: float) -> bool:
        """True if forgetting this usage makes no difference."""
        return not self.count and (self.bucket is None or self.bucket.is_full(now))


class ConnectionLimiter:
    """All connections of this process, by address."""

    def __init__(self, settings: Settings) -> None:
        self._trusted = settings.trusted_proxies
        self._most = settings.max_sockets_per_address
        self._all = TokenBucket(settings.max_handshakes, settings.max_handshakes * BURST_SECONDS)
        self._proxies = AddressUsage(float("inf"), None)
        self._refused = AddressUsage(MAX_REFUSED, None)
        self._usages: dict[str, AddressUsage] = {}
        self._swept_at = 0.0
        self._log = RateLimitedLogger(log)
        self.capacity = settings.max_sockets
        self.is_trusted = functools.lru_cache(1024)(self._is_trusted)

    def acquire(self, address: str | None, now: float) -> AddressUsage:
        """Admit a connection of an address; None: one that can't be read. Raises LimitExceeded."""
        try:
            return self._acquire(address, now)
        except LimitExceeded as exceeded:
            self._log.warning(TOLD[exceeded.reason], address=address or UNREADABLE)
            raise

    def _acquire(self, address: str | None, now: float) -> AddressUsage:
        if address is not None and self.is_trusted(address):
            return self._proxies.acquire(now)
        self._forget_idle(now)
        if address is None:
            return self._usage(UNREADABLE, UNREADABLE_SHARE).acquire(now)
        network = site(address)
        shared = None if network is None else self._usage(network, NETWORK_SHARE)
        return self._usage(subnet(address), 1, shared).acquire(now)

    def acquire_refused(self, now: float) -> AddressUsage | None:
        """Count a connection that was refused and may stay until the answer is read; None: there are too many."""
        try:
            return self._refused.acquire(now)
        except LimitExceeded:
            return None

    def check_capacity(self, connections: int) -> None:
        """Raises LimitExceeded if this process has more connections than file descriptors for them."""
        if connections - self._refused.count > self.capacity:
            self._log.warning(TOLD["full"], capacity=self.capacity)
            raise LimitExceeded("full", jitter_ms(5000, 20_000))

    def check_rate(self, now: float) -> None:
        """The rate of all together, for a request that its address may make. Raises LimitExceeded."""
        if not self._all.take(now):
            self._log.warning(TOLD["handshake_rate"])
            raise LimitExceeded("handshake_rate", jitter_ms(1000, 5000))

    def client(self, peer: str, forwarded: list[bytes]) -> str | None:
        """The client's address: the last forwarded one that is not a trusted proxy's; None if it can't be read."""
        header = b",".join(forwarded).decode("latin-1")
        if not self.is_trusted(peer):
            if forwarded:
                self._log.warning(
                    "a peer that is no trusted proxy forwards addresses: if it is your proxy, add it to"
                    " RELAY_TRUSTED_PROXIES; until then all of its clients count as one",
                    peer=peer, x_forwarded_for=header[:200],
                )  # fmt: skip
            return peer
        if not forwarded and is_loopback(peer):
            return peer  # development: no proxy at all
        client = self._last_untrusted(header)
        if client is None:
            self._log.warning(
                "a trusted proxy forwards no address that can be read: its clients share one limit",
                peer=peer, x_forwarded_for=header[:200] if forwarded else None,
            )  # fmt: skip
        return client

    def _last_untrusted(self, header: str) -> str | None:
        address = None
        for hop in reversed(header.split(",")):
            if not hop.strip():
                continue  # RFC 9110, 5.6.1: empty elements of a list don't count
            address = read_hop(hop.strip())
            if address is None or not self.is_trusted(address):
                break
        return address

    def _usage(self, key: str, share: int, network: AddressUsage | None = None) -> AddressUsage:
        usage = self._usages.get(key)
        if usage is None:
            limit = self._most * share
            usage = self._usages[key] = AddressUsage(limit, TokenBucket(limit / REFILL_SECONDS, limit), network)
        return usage

    def _forget_idle(self, now: float) -> None:
        if now - self._swept_at < REFILL_SECONDS:
            return
        self._swept_at = now
        busy = {key: usage for key, usage in self._usages.items() if not usage.is_idle(now)}
        networks = {id(usage.network) for usage in busy.values()}
        self._usages = {key: usage for key, usage in self._usages.items() if key in busy or id(usage) in networks}

    def _is_trusted(self, address: str) -> bool:
        return is_address(address) and any(mapped(address) in network for network in self._trusted)


def mapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address, IPv4 also when it is written as IPv6. Raises ValueError."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return (isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped) or found


@functools.lru_cache(4096)
def is_address(text: str) -> bool:
    """True for an IP address."""
    try:
        mapped(text)
    except ValueError:
        return False
    return True


@functools.lru_cache(4096)
def is_loopback(address: str) -> bool:
    """True for an IP address of this machine's own."""
    return mapped(address).is_loopback


# Proxies also write 203.0.113.7:1234, [2001:db8::1] and [2001:db8::1]:443.
HOP = re.compile(r"\[(?P<v6>[^\[\]]+)\](?::\d+)?|(?P<v4>[\d.]+):\d+")


def read_hop(hop: str) -> str | None:
    """The address in one element of X-Forwarded-For, without port and brackets; None if there is none."""
    match = HOP.fullmatch(hop)
    address = (match["v6"] or match["v4"]) if match else hop
    return address if is_address(address) else None


@functools.lru_cache(4096)
def subnet(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one IPv6 customer has."""
    if not is_address(address):
        return address
    found = mapped(address)
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


@functools.lru_cache(4096)
def site(address: str) -> str | None:
    """The /48 of an IPv6 address, which one organisation has; None for IPv4."""
    if not is_address(address) or (found := mapped(address)).version == 4:
        return None
    return str(ipaddress.ip_network((found, 48), strict=False))


def allow_descriptors(wanted: int) -> int:
    """Raise this process's limit of open files as far as is needed and allowed; the limit afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(allowed, soft)
