"""How many clients there may be and how fast they may come: in all, and of one address. Knows no tokens.

A trusted proxy is not a client: its connections count for the address it forwards, or for none.
"""

from __future__ import annotations

import functools
import ipaddress
import resource
from typing import TYPE_CHECKING

from relay.frames import jittered

if TYPE_CHECKING:
    from relay.settings import Settings

RESERVE = 150  # file descriptors that are not for joined clients: files, database, refusals, plain HTTP
BURST_SECONDS = 3.0  # of handshakes that may come at once after a quiet time
REFILL_SECONDS = 10.0  # in which an address may come back with all of its sockets


class Crowded(Exception):
    """No room: a word for metrics, and when to come back."""

    def __init__(self, reason: str, retry_ms: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_ms = retry_ms


class Bucket:
    """A rate with bursts: `size` at once, `rate` a second."""

    __slots__ = ("_at", "_left", "_rate", "_size")

    def __init__(self, rate: float, size: float) -> None:
        self._rate, self._size, self._left, self._at = rate, size, size, 0.0

    def take(self, now: float) -> bool:
        """One more at this moment; False: too fast."""
        self._left = min(self._size, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def is_full(self, now: float) -> bool:
        """True when remembering it makes no difference."""
        return self._left + (now - self._at) * self._rate >= self._size


class Place:
    """The address of some clients: one object for all of them."""

    __slots__ = ("bucket", "count")

    def __init__(self, bucket: Bucket | None) -> None:
        self.bucket = bucket
        self.count = 0

    def leave(self) -> None:
        """One of them is gone."""
        self.count -= 1


class Crowd:
    """Every client of this process, by address."""

    def __init__(self, settings: Settings) -> None:
        self._trusted = settings.trusted_proxies
        self._most = settings.max_sockets_per_address
        self._all = Bucket(settings.max_handshakes, settings.max_handshakes * BURST_SECONDS)
        self._proxies = Place(None)
        self._places: dict[str, Place] = {}
        self._swept_at = 0.0
        self.capacity = settings.max_sockets
        self.is_trusted = functools.lru_cache(1024)(self._is_trusted)

    def enter(self, address: str, now: float) -> Place:
        """A handshake from an address. Raises Crowded; otherwise the place must be left once."""
        if not self._all.take(now):
            raise Crowded("handshake_rate", jittered(1000, 5000))
        place = self._proxies if self.is_trusted(address) else self._place(subnet(address))
        if place.bucket is not None:
            if place.count >= self._most:
                raise Crowded("address_full", jittered(10_000, 60_000))
            if not place.bucket.take(now):
                raise Crowded("address_rate", jittered(2000, 10_000))
            self._forget_quiet(now)
        place.count += 1
        return place

    def client(self, peer: str, forwarded: list[bytes]) -> str:
        """The client's address: the last forwarded one that is not itself a trusted proxy's."""
        if not self.is_trusted(peer):
            return peer
        address = peer
        for hop in reversed(b",".join(forwarded).decode("latin-1").split(",")):
            if not is_address(hop.strip()):
                break
            address = hop.strip()
            if not self.is_trusted(address):
                break
        return address

    def _place(self, key: str) -> Place:
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = Place(Bucket(self._most / REFILL_SECONDS, self._most))
        return place

    def _forget_quiet(self, now: float) -> None:
        if now - self._swept_at < REFILL_SECONDS:
            return
        self._swept_at = now
        for key, place in list(self._places.items()):
            if not place.count and place.bucket is not None and place.bucket.is_full(now):
                del self._places[key]

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
def subnet(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one IPv6 customer has."""
    if not is_address(address):
        return address
    found = mapped(address)
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


def allow_descriptors(wanted: int) -> int:
    """Raise this process's limit of open files as far as is needed and allowed; the limit afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(allowed, soft)
