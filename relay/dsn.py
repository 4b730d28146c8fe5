"""The connection string of the database: read by libpq itself, with a table of what becomes of each parameter.

Used by the relay (asyncpg) and by alembic/env.py (psycopg). Only psycopg and the standard library are imported here.
No message shows a value of the string, as any piece of it may be a piece of an unescaped password.
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlencode

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

# What becomes of each parameter in the relay. A test compares the three with the list that libpq gives.
TLS = (
    "sslmode", "sslnegotiation", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl",
    "ssl_min_protocol_version", "ssl_max_protocol_version",
)  # fmt: skip
HONOURED = {
    *TLS, "service", "user", "password", "passfile", "dbname", "host", "hostaddr", "port", "connect_timeout", "options",
    "application_name", "krbsrvname", "channel_binding", "target_session_attrs",
}  # fmt: skip
IGNORED = {
    "client_encoding": "the relay reads UTF-8",
    "fallback_application_name": "the relay has a name of its own; use application_name",
    **dict.fromkeys(
        ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        "a dead connection is noticed within 5 s without it",
    ),
    "load_balance_hosts": "the relay follows the primary, whichever host that is",
    "sslcompression": "TLS compression does not exist any more",
    "sslsni": "the host's name is always sent",
    "sslcertmode": "a certificate is sent when sslcert is set",
    "gssencmode": "connections are encrypted by TLS only",
    **dict.fromkeys(("gsslib", "gssdelegation"), "the system's GSSAPI is used, without delegation"),
    **dict.fromkeys(("max_protocol_version", "min_protocol_version"), "the relay speaks protocol 3.0"),
    "sslkeylogfile": "no keys are logged",
}
UNABLE = {  # each asks for a protection or a way to log in that asyncpg does not have; ignoring it would be no answer
    "requirepeer": "use sslmode=verify-full over TCP instead",
    "require_auth": "restrict the methods in pg_hba.conf instead",
    "sslcrldir": "use sslcrl, one file",
    **dict.fromkeys(
        (
            "scram_client_key",
            "scram_server_key",
            "oauth_issuer",
            "oauth_client_id",
            "oauth_client_secret",
            "oauth_scope",
        ),
        "use a password or a client certificate",
    ),
    "replication": "remove it",
}
STANDBYS = ("standby", "read-only", "prefer-standby")

SEARCH_PATH = "use options=-csearch_path%3DNAME in an address, options='-c search_path=NAME' among keywords"
POOL = "remove it: a pooler is recognised without it"
USE_TLS, USE_TIMEOUT = "use sslmode=require or sslmode=verify-full", "use connect_timeout"
FOREIGN = {  # parameters of other drivers that are seen often, with what to do
    **dict.fromkeys(("ssl", "sslaccept", "tls"), USE_TLS),
    **dict.fromkeys(("schema", "currentSchema", "search_path"), SEARCH_PATH),
    **dict.fromkeys(("pgbouncer", "pool", "pool_size", "pool_timeout", "max_overflow", "connection_limit"), POOL),
    **dict.fromkeys(("prepareThreshold", "prepared_statement_cache_size", "statement_cache_size"), POOL),
    **dict.fromkeys(("timeout", "connectTimeout", "socket_timeout"), USE_TIMEOUT),
    "statement_timeout": "remove it: the relay ends a call that takes too long",
    **{"database": "use dbname", "username": "use user", "hostname": "use host"},
}

UNREADABLE = (
    "can't be read: percent-encode the special characters of the password (@ is %40, / is %2F, : is %3A, % is %25, a"
    " blank is %20); among keywords put it into single quotes"
)
SCHEMES = ("postgresql://", "postgres://")
MARK = "after-hours"  # no value of load_balance_hosts
WORDS = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full", "postgres", "direct", *STANDBYS}
PORT = re.compile(r"(?:[1-9][0-9]{0,4})?")
KEYWORD = re.compile(r"(?:^|\s)(\w+)\s*=")


class DsnError(ValueError):
    """A connection string that cannot be used: one line without any of its values."""


@dataclass(frozen=True)
class Host:
    """One host of a connection string. `name` may be shown. `parameters`: what libpq made of it, for this host."""

    name: str
    parameters: dict[str, str] = field(repr=False)

    def get(self, name: str) -> str | None:
        """The value of a parameter; None if it is unset or empty."""
        return self.parameters.get(name) or None

    @property
    def connect_seconds(self) -> float | None:
        """connect_timeout, if it limits anything."""
        seconds = int(self.parameters.get("connect_timeout") or 0)
        return seconds if seconds > 0 else None

    @property
    def address(self) -> str | None:
        """Where to connect to; None: the usual places for a local server."""
        # the name that TLS sends and compares is the one connected to
        if self.get("host") is None or self.parameters["sslmode"] in ("disable", "allow", "prefer"):
            return self.get("hostaddr") or self.get("host")
        return self.get("host")

    def tls_url(self) -> str:
        """A URL that holds the TLS parameters only, in asyncpg's understanding of them."""
        found = {name: value for name in TLS if (value := self.get(name))}
        if found.get("sslrootcert") == "system":
            del found["sslrootcert"]
        return "postgresql://?" + urlencode(found)

    def tls_context(self) -> ssl.SSLContext | None:
        """For sslrootcert=system, which asyncpg does not know: the authorities that this machine trusts."""
        if self.get("sslrootcert") != "system":
            return None
        context = ssl.create_default_context()
        # Python 3.13 makes checks that libpq does not: private authorities often lack the extensions of RFC 5280.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.set_alpn_protocols(["postgresql"])
        for name, attribute in (("min", "minimum_version"), ("max", "maximum_version")):
            if version := self.get(f"ssl_{name}_protocol_version"):
                setattr(context, attribute, ssl.TLSVersion[version.replace(".", "_")])
        if certificate := self.get("sslcert"):
            context.load_cert_chain(certificate, self.get("sslkey"), self.parameters.get("sslpassword", ""))
        return context


def known_parameters() -> dict[str, str | None]:
    """libpq's parameters and the value that each has when it is not set."""
    known = pq.Conninfo.get_defaults()
    return {each.keyword.decode(): each.compiled.decode() if each.compiled else None for each in known}


def parse_dsn(text: str) -> dict[str, str]:
    """The parameters that the string itself sets. Raises DsnError if it is not one for libpq."""
    text = text.strip()
    is_address = text.startswith(SCHEMES)
    if not is_address and ("://" in text or (text and "=" not in text)):
        raise DsnError("must be an address that begins with postgresql://, without quotes, or keywords (host=… user=…)")
    if is_address and _is_ambiguous(text):
        raise DsnError(UNREADABLE)
    try:
        parsed = {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except (psycopg.Error, ValueError):
        foreign = _foreign_parameters(text, is_address)
        raise DsnError("; ".join(foreign) if foreign else UNREADABLE) from None
    if is_address and re.search(r"[@\s]", parsed.get("host", "")):
        raise DsnError(UNREADABLE)
    if not all(PORT.fullmatch(port) and int(port or 1) < 65536 for port in parsed.get("port", "").split(",")):
        raise DsnError(UNREADABLE if is_address else "port must be a number from 1 to 65535")
    return parsed


def _query_of(address: str) -> list[tuple[str, str]]:
    """Names and values after the question mark, as they stand there."""
    authority, slash, rest = address.partition("://")[2].partition("/")
    parts = (authority.rpartition("@")[2] + slash + rest).partition("?")[2].split("&")
    return [(name, value) for name, _, value in (part.partition("=") for part in parts)]


def _is_ambiguous(address: str) -> bool:
    """True if an @ stands where only an unescaped password can have put it."""
    authority, _, rest = address.partition("://")[2].partition("/")
    return (
        authority.count("@") > 1
        or "@" in rest.partition("?")[0]
        or any("@" in name + value and name not in ("user", "password") for name, value in _query_of(address))
    )


def _foreign_parameters(text: str, is_address: bool) -> list[str]:
    """One remedy for each parameter that libpq does not know. A name that may be a piece of a password is left out."""
    names = [name for name, _ in _query_of(text)] if is_address else KEYWORD.findall(text)
    if not is_address or "password" in names:
        names = [name for name in names if name in FOREIGN]
    known = known_parameters()
    return [
        f'"{name}" is not a libpq parameter: {FOREIGN.get(name, "remove it")}'
        for name in dict.fromkeys(names)
        if name.isidentifier() and name not in known
    ]


def _start(parameters: dict[str, str]) -> pq.abc.PGconn:
    """A connection that has all its parameters and was never opened. Raises DsnError for what libpq does not accept.

    libpq adds those of the service file, the environment and the password file, and checks all, when a connection is
    started. load_balance_hosts is checked last of those that matter here: a value that libpq does not know ends the
    start before any host is looked up.
    """
    try:
        started = pq.PGconn.connect_start(make_conninfo(**{**parameters, "load_balance_hosts": MARK}).encode())
        message = started.error_message.decode(errors="replace").strip()
    except (psycopg.Error, ValueError):
        raise DsnError(UNREADABLE) from None
    if "load_balance_hosts" not in message or MARK not in message:
        shown = re.sub(r'"([^"]*)"', lambda quoted: quoted[0] if quoted[1] in WORDS else '"…"', message)
        raise DsnError(f"is not accepted by libpq: {shown.partition(chr(10))[0]}")
    return started


def _parameters_of(started: pq.abc.PGconn) -> dict[str, str]:
    found = {each.keyword.decode(): _text(each.val) for each in started.info if each.val}
    del found["load_balance_hosts"]
    return found


def _text(value: bytes) -> str:
    """A value, which may come from a file or the environment."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise DsnError("a value, maybe of a file or of the environment, is not UTF-8") from None


def prepare_dsn(text: str) -> str:
    """The string for psycopg, which is libpq and honours all of it. Raises DsnError. Nothing is connected to.

    For sslrootcert=system it names the authorities that Python's OpenSSL uses: the wheel psycopg-binary brings an
    OpenSSL of its own, which looks in a directory that no machine has.
    """
    _start(parse_dsn(text))
    paths = ssl.get_default_verify_paths()
    for name, path in ((paths.openssl_cafile_env, paths.cafile), (paths.openssl_capath_env, paths.capath)):
        if path is not None:
            os.environ.setdefault(name, path)
    return text.strip()


def read_dsn(text: str) -> list[Host]:
    """The hosts of the string, in order, for asyncpg. Raises DsnError for what can be neither honoured nor ignored."""
    given = parse_dsn(text)
    found = _parameters_of(_start(given))
    if "load_balance_hosts" in given:
        found["load_balance_hosts"] = given["load_balance_hosts"]
    _refuse_what_asyncpg_lacks(found)
    if found.get("channel_binding") == "require" and found["sslmode"] in ("disable", "allow", "prefer"):
        found["sslmode"] = "require"
    hosts = found.get("host", "").split(",")
    addresses = found.get("hostaddr", "").split(",")
    ports = found.get("port", "").split(",")
    count = max(len(hosts), len(addresses))
    result = []
    for number in range(count):
        one = {
            "host": hosts[number] if len(hosts) == count else "",
            "hostaddr": addresses[number] if len(addresses) == count else "",
            "port": ports[number] if len(ports) == count else ports[0],
        }
        parameters = {**found, **one}
        # the password file is asked for each host
        parameters["password"] = _text(_start(parameters).password or b"")
        place = one["host"] or one["hostaddr"] or "local server"
        result.append(Host(f"{place}:{one['port'] or 5432}", parameters))
    return result


def _refuse_what_asyncpg_lacks(found: dict[str, str]) -> None:
    for name, remedy in UNABLE.items():
        if found.get(name):
            raise DsnError(f"{name} can't be honoured by the relay: {remedy}")
    if found.get("gssencmode") == "require":
        raise DsnError("gssencmode=require can't be honoured by the relay: use sslmode=require")
    if found.get("host", "").startswith("@"):
        raise DsnError("an abstract socket can't be used by the relay: use the directory of the socket")
    if not re.fullmatch(r"\s*-?[0-9]{1,9}\s*", found.get("connect_timeout", "0")):
        raise DsnError("connect_timeout must be a whole number of seconds")
    for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        path = found.get(name)
        if path and not (name == "sslrootcert" and path == "system") and not os.access(path, os.R_OK):
            raise DsnError(f"{name} is not a readable file")


def list_ignored(host: Host) -> dict[str, str]:
    """Parameters without effect in the relay that were set all the same, each with the reason."""
    defaults = {**known_parameters(), "sslcertmode": "allow"}  # libpq fills that in when it connects
    ignored = {
        name: reason
        for name, reason in IGNORED.items()
        if (value := host.get(name)) is not None and value != defaults.get(name)
    }
    if host.get("channel_binding") == "require":
        ignored["channel_binding"] = "not offered by asyncpg; TLS is required instead"
    if host.get("target_session_attrs") in STANDBYS:
        ignored["target_session_attrs"] = "the relay writes: it follows the primary only"
    if host.get("hostaddr") not in (None, host.address):
        ignored["hostaddr"] = "with TLS required the host's name is resolved"
    return ignored
