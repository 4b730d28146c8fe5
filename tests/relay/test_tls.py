"""Connection strings of providers against a server with TLS, whose authority no machine knows."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from relay.check import check_host
from relay.dsn import read_dsn
from relay.settings import Settings
from tests.helpers import REPO, SECRET, free_port
from tests.relay.conftest import expire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from tests.conftest import Instance
    from tests.relay.conftest import StartRelay

PASSWORD = "p@ss w/rd:%'\\"


@dataclass(frozen=True)
class Server:
    """Where the server listens, and the file of its authority."""

    port: str
    authority: Path

    def dsn(self, query: str, hosts: str | None = None, role: str = "after_hours_relay") -> str:
        """An address with the role's password."""
        hosts = hosts or f"localhost:{self.port}"
        query = query.replace("AUTHORITY", quote(str(self.authority)))
        return f"postgresql://{role}:{quote(PASSWORD, safe='')}@{hosts}/after_hours?{query}"


def certify(
    name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate for a host name, or of an authority if there is no issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issued_by, signing_key = issuer or (subject, key)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issued_by).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )  # fmt: skip
    return builder.sign(signing_key, hashes.SHA256()), key


@pytest.fixture(scope="module")
def server(instance: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The instance with TLS on its TCP address, and a password for the relay's role."""
    authority, authority_key = certify("After Hours test authority", None)
    certificate, key = certify("localhost", (authority.subject, authority_key))
    file = tmp_path_factory.mktemp("tls") / "authority.pem"
    file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    pem = {
        "ssl_cert_file": certificate.public_bytes(serialization.Encoding.PEM),
        "ssl_key_file": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    }
    with instance.connect() as db:
        row = db.execute("select current_setting('data_directory') as home, current_setting('port') as port").fetchone()
        assert row is not None
        for (
            setting,
            text,
        ) in pem.items():  # the server writes them itself: they are then its own, and unreadable to others
            lines = "\n".join(f"('{line}')," for line in text.decode().splitlines()).rstrip(",")
            db.execute(f"copy (values {lines}) to program 'umask 077; cat > {row.home}/{setting}.pem'".encode())
            db.execute(f"alter system set {setting} = '{setting}.pem'".encode())
        db.execute("alter system set ssl = on")
        db.execute("select pg_reload_conf()")
        literal = psycopg.sql.Literal(PASSWORD).as_string(db)
        db.execute(f"alter role after_hours_relay password {literal}".encode())
        yield Server(row.port, file)
        for setting in ("ssl", *pem):
            db.execute(f"alter system reset {setting}".encode())
        db.execute("alter role after_hours_relay password null")
        db.execute("select pg_reload_conf()")


@pytest.fixture(autouse=True)
def _no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in os.environ:
        if name.startswith("PG"):
            monkeypatch.delenv(name)


async def checked(dsn: str) -> tuple[bool, str]:
    """The last line of `check` on the last host of a connection string that is of interest here."""
    settings = Settings(dsn=SecretStr(dsn), jwt_secret=SecretStr(SECRET))
    hosts = read_dsn(dsn)
    good, line = (await check_host(hosts[-1], settings))[0]
    assert PASSWORD not in line
    return good, line


WORK = [
    "sslmode=require",
    "sslmode=require&channel_binding=require",  # as Neon gives it
    "sslmode=verify-ca&sslrootcert=AUTHORITY",
    "sslmode=verify-full&sslrootcert=AUTHORITY",
    "sslmode=verify-full&sslrootcert=AUTHORITY&ssl_min_protocol_version=TLSv1.3",
    "sslmode=prefer",
    "sslmode=disable",
    "ssl=true",
    "channel_binding=require",
    "sslmode=require&target_session_attrs=read-write",
    "sslmode=require&target_session_attrs=primary",
    "sslmode=require&connect_timeout=10&keepalives=1&keepalives_idle=30&tcp_user_timeout=1000&gssencmode=disable",
    "sslmode=require&application_name=night%20relay&fallback_application_name=x&client_encoding=utf8",
    "sslmode=require&options=-c%20search_path%3Dafter_hours%20-c%20work_mem%3D8MB",
    "sslmode=require&load_balance_hosts=random&sslsni=1&krbsrvname=postgres&passfile=/nowhere",
]


@pytest.mark.parametrize("query", WORK)
async def test_it_connects_as_alembic_does(server: Server, db: object, query: str) -> None:
    dsn = server.dsn(query)
    good, line = await checked(dsn)
    assert good, line
    if "channel_binding=require" in query:
        with psycopg.connect(dsn):  # libpq binds the channel; asyncpg cannot
            pass


REFUSED = [
    ("sslmode=verify-full&sslrootcert=system", "the server's certificate is not accepted: unable to get local issuer"),
    ("sslmode=verify-full", "root.crt"),
]


@pytest.mark.parametrize(("query", "message"), REFUSED)
async def test_a_certificate_of_an_unknown_authority_is_refused(server: Server, query: str, message: str) -> None:
    good, line = await checked(server.dsn(query))
    assert not good
    assert message in line
    assert "\n" not in line


async def test_the_name_in_the_certificate_counts_for_verify_full_only(server: Server, db: object) -> None:
    where = f"127.0.0.1:{server.port}"
    assert (await checked(server.dsn("sslmode=verify-ca&sslrootcert=AUTHORITY", where)))[0]
    good, line = await checked(server.dsn("sslmode=verify-full&sslrootcert=AUTHORITY", where))
    assert (good, "certificate is not accepted: IP address mismatch" in line) == (False, True), line


def test_an_authority_that_this_machine_trusts_is_the_system(server: Server, db: object) -> None:
    """SSL_CERT_FILE names the machine's authorities, as its package does for the whole machine."""
    variables = {
        **os.environ, "SSL_CERT_FILE": str(server.authority), "RELAY_JWT_SECRET": SECRET, "RELAY_MAX_SOCKETS": "100",
        "RELAY_DSN": server.dsn("sslmode=verify-full&sslrootcert=system"), "RELAY_BIND": f"127.0.0.1:{free_port()}",
        "RELAY_ADMIN_BIND": f"127.0.0.1:{free_port()}",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "relay", "check"],
        cwd=REPO, env=variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "a primary, receives NOTIFY" in done.stdout, done.stdout + done.stderr


async def test_a_client_certificate_is_presented(server: Server, db: object, tmp_path: Path) -> None:
    """The server asks for none here; what is tested is that the files are read."""
    certificate, key = certify("after_hours_relay", None)
    (tmp_path / "c.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "k.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"k")
        )
    )
    files = f"sslmode=require&sslcert={tmp_path}/c.pem&sslkey={tmp_path}/k.pem&sslpassword="
    good, line = await checked(server.dsn(files + "k"))
    assert good, line
    good, line = await checked(server.dsn(files + "wrong"))
    assert (good, "\n" in line) == (False, False), line


async def test_the_first_of_two_hosts_is_down(
    server: Server, start_relay: StartRelay, db: psycopg.Connection, user: UUID
) -> None:
    hosts = f"localhost:{free_port()},localhost:{server.port}"
    relay = await start_relay(dsn=server.dsn("sslmode=verify-full&sslrootcert=AUTHORITY", hosts))
    async with relay.peer(user) as peer:
        expire(db, user)
        await peer.until(lambda it: it.events)
    encrypted = db.execute(
        "select bool_and(s.ssl) from pg_stat_ssl as s join pg_stat_activity as a using (pid) where a.usename = 'after_hours_relay'"
    ).fetchone()
    assert encrypted is not None
    assert encrypted[0] is True


async def test_service_file_and_password_file(
    server: Server, db: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").write_text(
        f"[night]\nhost=localhost\nport={server.port}\nuser=after_hours_relay\ndbname=after_hours\nsslmode=verify-full\n"
        f"sslrootcert={server.authority}\n"
    )
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    (tmp_path / "passwords").write_text(f"localhost:{server.port}:after_hours:after_hours_relay:{escaped}\n")
    (tmp_path / "passwords").chmod(0o600)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    for dsn in (
        f"service=night passfile={tmp_path}/passwords",
        f"postgresql:///?service=night&passfile={tmp_path}/passwords",
    ):
        good, line = await checked(dsn)
        assert good, line
    monkeypatch.setenv("PGSERVICE", "night")
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "passwords"))
    good, line = await checked("postgresql://")
    assert good, line


async def test_settings_of_the_string_reach_the_session(
    server: Server, start_relay: StartRelay, connect: Callable[..., psycopg.Connection]
) -> None:
    query = "sslmode=require&application_name=night%20relay&options=-c%20lock_timeout%3D7s"
    relay = await start_relay(dsn=server.dsn(query))
    session = relay.relay.listener._session
    assert session is not None
    for connection in (session._listening, session._calling):
        assert connection.get_settings().application_name == "night relay"
        async with session._calls:
            assert await connection.fetchval("show lock_timeout") == "7s"


@pytest.mark.parametrize(("trusted", "message"), [(False, "certificate verify failed"), (True, "")])
def test_alembic_takes_the_system_too(server: Server, db: object, trusted: bool, message: str) -> None:
    """alembic current, as a role that may only connect."""
    more = {"SSL_CERT_FILE": str(server.authority)} if trusted else {}
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "current"], cwd=REPO, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **more, "AFTER_HOURS_DSN": server.dsn("sslmode=verify-full&sslrootcert=system")},
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert message in said
    assert "Traceback" not in said
    assert PASSWORD not in said
    assert ("no connection" in said) is not trusted, said
