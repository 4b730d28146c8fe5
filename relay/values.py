"""Reads the texts of settings: addresses, origins, networks. What could have no effect is refused, with a remedy.

Each function raises ValueError with one line that does not show the text.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

QUOTES = ('""', "''", "``", "“”")
DEFAULT_PORTS = {"http": 80, "https": 443}
HOST_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?", re.I)
BIND = "must be host:port, for example 127.0.0.1:8787 or [::1]:8787; all addresses are 0.0.0.0 or [::]"
ORIGIN = "https://HOST or https://HOST:PORT"
# of ./dev, of `relay tail`, and what Kubernetes sets in every container for a service that is named relay
NO_SETTINGS = re.compile(r"RELAY_(TOKEN|ADMIN_PORT|PORT|PORT_.*|SERVICE_.*)")


def validate_ends(text: str) -> str:
    """A text without white space or quotes around it, as they would count as a part of it."""
    if text != text.strip():
        raise ValueError("has white space around it (a line end of a file?): remove it")
    if len(text) > 1 and text[0] + text[-1] in QUOTES:
        raise ValueError("has quotes around it, which count as a part of it: remove them")
    return text


def split_list(text: str) -> list[str]:
    """The entries of a list that is separated by commas."""
    if text.lstrip().startswith(("[", "{")) and '"' in text:
        raise ValueError("is a list separated by commas, not JSON")
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    for number, entry in enumerate(entries, 1):
        if re.search(r"[\s;|]", entry):
            raise ValueError(f"entry {number}: entries are separated by commas")
        if re.search(r"[\"'`]", entry):
            raise ValueError(f"entry {number}: has quotes in it, which count as a part of it: remove them")
    return entries


def parse_origins(text: str) -> frozenset[str]:
    """Origins as browsers send them: lower case, no default port, names in ASCII (RFC 6454, section 6.2)."""
    return frozenset(_origin(number, entry) for number, entry in enumerate(split_list(text), 1))


def _origin(number: int, entry: str) -> str:
    if entry == "null":  # what pages without an origin send, by name
        return entry
    if "*" in entry:
        raise ValueError(f"entry {number}: there are no wildcards: list each origin, {ORIGIN}")
    if "://" not in entry:
        raise ValueError(f"entry {number}: has no scheme: write {ORIGIN}")
    try:
        url = urlsplit(entry)
        host, port = url.hostname or "", url.port
        if ":" not in host:
            host = host.encode("idna").decode()
    except ValueError:
        raise ValueError(f"entry {number}: is not {ORIGIN}") from None
    if url.scheme in ("ws", "wss"):
        raise ValueError(f"entry {number}: an origin is the address of the page, not of the relay: write {ORIGIN}")
    if url.path not in ("", "/") or url.query or url.fragment or "@" in url.netloc or not _is_host(host):
        raise ValueError(f"entry {number}: an origin is scheme, host and port, no more: write {ORIGIN}")
    place = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{place}" + (f":{port}" if port not in (None, DEFAULT_PORTS.get(url.scheme)) else "")


def parse_networks(text: str) -> frozenset[Network]:
    """Networks and single addresses."""
    networks = set()
    for number, entry in enumerate(split_list(text), 1):
        try:
            networks.add(ipaddress.ip_network(entry))
        except ValueError:
            try:
                right = ipaddress.ip_network(entry, strict=False)
            except ValueError:
                raise ValueError(
                    f"entry {number}: is not a network or an address: write 10.0.0.0/8 or 10.1.2.3, no names, no ports"
                ) from None
            raise ValueError(f"entry {number}: is an address inside of a network: write {right}") from None
    return frozenset(networks)


def validate_bind(text: str) -> str:
    """An address to listen on, host:port."""
    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    inner = host[1:-1] if is_bracketed else host
    is_port = port.isascii() and port.isdigit() and int(port) < 65536
    if not is_port or not _is_host(inner) or is_bracketed != (":" in inner):
        raise ValueError(BIND)
    return text


def _is_host(text: str) -> bool:
    """True for an address or a name that may be one of a host."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return HOST_NAME.fullmatch(text) is not None and not re.fullmatch(r"[0-9.]+", text)
    return True


def list_unknown(variables: Iterable[str], known: Iterable[str]) -> list[str]:
    """A line for each variable RELAY_… that is not a setting, with the setting whose name is nearest."""
    settings = {name.removeprefix("RELAY_"): name for name in known}
    lines = []
    for name in sorted(variable.upper() for variable in variables):
        short = name.removeprefix("RELAY_")
        if name != short and short not in settings and not NO_SETTINGS.fullmatch(name):
            near = difflib.get_close_matches(short, settings, 1)
            lines.append(f"{name} is not a setting" + (f": is {settings[near[0]]} meant?" if near else ""))
    return lines
