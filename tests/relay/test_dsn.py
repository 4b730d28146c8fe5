"""RELAY_DSN and AFTER_HOURS_DSN: all that libpq takes works or is named, and no message holds a piece of a password."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.dsn import (
    HONOURED,
    IGNORED,
    UNABLE,
    DsnError,
    Host,
    known_parameters,
    list_ignored,
    prepare_dsn,
    read_dsn,
)
from tests.helpers import REPO, SECRET, free_port

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = "postgresql://u@db/x?"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("PG", "RELAY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def places(dsn: str) -> list[tuple[str | None, str | None]]:
    return [(host.address, host.get("port")) for host in read_dsn(dsn)]


def test_the_table_has_each_parameter_of_libpq_once() -> None:
    for name in known_parameters():
        assert [name in HONOURED, name in IGNORED, name in UNABLE].count(True) == 1, name


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://u@a/x", [("a", "5432")]),
        ("postgres://u:p@a:1,b:2/x?sslmode=require", [("a", "1"), ("b", "2")]),
        ("postgresql://u:p@a,b:2/x", [("a", None), ("b", "2")]),
        ("postgresql://u@[::1]:5,[2001:db8::1]/x", [("::1", "5"), ("2001:db8::1", None)]),
        ("postgresql://u@/x?host=/var/a,/run&port=5", [("/var/a", "5"), ("/run", "5")]),
        ("postgresql:///x?host=a,b&port=1,2", [("a", "1"), ("b", "2")]),
        ("postgresql://u@%2Frun%2Fpg/x", [("/run/pg", "5432")]),
        ("host=a,b port=1,2 user=u dbname=x", [("a", "1"), ("b", "2")]),
        ("host = 'a' password='it\\'s' user=u", [("a", "5432")]),
        ("hostaddr=127.0.0.1 host=db user=u", [("127.0.0.1", "5432")]),
        ("hostaddr=127.0.0.1,::1 user=u", [("127.0.0.1", "5432"), ("::1", "5432")]),
        ("user=u", [(None, "5432")]),
        ("", [(None, "5432")]),
        (" postgresql://u@a/x\n", [("a", "5432")]),
    ],
)  # fmt: skip
def test_hosts(dsn: str, expected: list[tuple[str | None, str | None]]) -> None:
    assert [(host, port or None) for host, port in places(dsn)] == expected


@pytest.mark.parametrize("password", ["p", "a:b", "a?b", "a#b&c=d", "pä ß", "x" * 300])
def test_what_libpq_reads_as_a_password_is_one(password: str) -> None:
    if " " not in password:
        assert read_dsn(f"postgresql://u:{password}@db/x")[0].get("password") == password
    assert read_dsn(f"user=u password='{password}' host=db")[0].get("password") == password


def test_service_file_password_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services, passwords = tmp_path / "services", tmp_path / "passwords"
    services.write_text("# ours\n[night]\nhost=a,b\nport=1,2\nuser=svc\ndbname=x\nsslmode=require\n")
    passwords.write_text("a:1:x:svc:one\\:two\nb:*:*:svc:three\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    for dsn in ("service=night", "postgresql://?service=night", "postgresql:///?service=night&connect_timeout=3"):
        first, second = read_dsn(dsn)
        assert [first.get("password"), second.get("password")] == ["one:two", "three"]
        assert [first.get(name) for name in ("user", "dbname", "sslmode")] == ["svc", "x", "require"]
    assert read_dsn("postgresql://other@/?service=night")[0].get("user") == "other", "the string wins"
    assert first.connect_seconds == 3
    with pytest.raises(DsnError, match="definition of service"):
        read_dsn("service=day")
    passwords.write_bytes(b"a:1:x:svc:\xe4\xf6\n")
    with pytest.raises(DsnError, match="is not UTF-8"):
        read_dsn("service=night")
    monkeypatch.setenv("PGHOST", "from-variable")
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    assert (read_dsn("")[0].address, read_dsn("")[0].get("sslmode")) == ("from-variable", "verify-ca")


@pytest.mark.parametrize(
    ("dsn", "ignored"),
    [
        (ADDRESS, []),
        (ADDRESS + "sslmode=require&channel_binding=require", ["channel_binding"]),
        (ADDRESS + "channel_binding=prefer&target_session_attrs=read-write&options=-csearch_path%3Dx", []),
        (ADDRESS + "keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=9",
         ["keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout"]),
        (ADDRESS + "gssencmode=prefer&load_balance_hosts=random&client_encoding=LATIN1&fallback_application_name=f",
         ["client_encoding", "fallback_application_name", "gssencmode", "load_balance_hosts"]),
        (ADDRESS + "target_session_attrs=standby", ["target_session_attrs"]),
        (ADDRESS + "hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=system", ["hostaddr"]),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_named(dsn: str, ignored: list[str]) -> None:
    assert sorted(list_ignored(read_dsn(dsn)[0])) == ignored


def test_channel_binding_still_demands_tls() -> None:
    assert read_dsn(ADDRESS + "channel_binding=require")[0].get("sslmode") == "require"
    assert read_dsn(ADDRESS + "channel_binding=require&sslmode=verify-full")[0].get("sslmode") == "verify-full"
    assert read_dsn(ADDRESS + "ssl=true")[0].get("sslmode") == "require", "libpq takes this one spelling of JDBC's"


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        (ADDRESS + "pgbouncer=true", '"pgbouncer" is not a libpq parameter: remove it'),
        (ADDRESS + "schema=app", '"schema" is not a libpq parameter: use options=-csearch_path%3DNAME'),
        (ADDRESS + "pool=5&sslmode=require", '"pool" is not a libpq parameter: remove it'),
        (ADDRESS + "ssl=1", '"ssl" is not a libpq parameter: use sslmode=require'),
        (ADDRESS + "sslaccept=strict&connection_limit=1", '"sslaccept" is not a libpq parameter: use sslmode=require'),
        (ADDRESS + "sslaccept=strict&connection_limit=1", '"connection_limit" is not a libpq parameter: remove it'),
        (ADDRESS + "supa=base", '"supa" is not a libpq parameter: remove it'),
        ("host=a user=u pgbouncer=true", '"pgbouncer" is not a libpq parameter: remove it'),
        (ADDRESS + "sslmode=on", "is not accepted by libpq: invalid sslmode value"),
        (ADDRESS + "sslmode=require&sslrootcert=system", 'weak sslmode "require" may not be used'),
        (ADDRESS + "sslmode=verify-full&sslrootcert=/nowhere", "sslrootcert is not a readable file"),
        (ADDRESS + "gssencmode=require", "gssencmode=require can't be honoured"),
        (ADDRESS + "require_auth=scram-sha-256", "require_auth can't be honoured"),
        (ADDRESS + "connect_timeout=soon", "connect_timeout must be a whole number"),
        ("host=a port=x user=u", "port must be a number"),
        ("host=a,b hostaddr=127.0.0.1", "could not match 2 host names to 1 hostaddr values"),
        ("not a dsn", "must be an address that begins with postgresql://"),
        ("mysql://u@db/x", "must be an address that begins with postgresql://"),
        ("postgresql+asyncpg://u@db/x", "must be an address that begins with postgresql://"),
        ('"postgresql://u@db/x"', "must be an address that begins with postgresql://, without quotes"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_a_remedy(dsn: str, message: str) -> None:
    with pytest.raises(DsnError) as refused:
        read_dsn(dsn)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def leaks(password: str, text: str) -> list[str]:
    """Pieces of a password, of at least four characters, that stand in a text."""
    return [password[at : at + 4] for at in range(len(password) - 3) if password[at : at + 4] in text]


def said_of(dsn: str) -> str:
    """Everything that may be shown of a connection string."""
    try:
        return " ".join(f"{host.name} {host} {list_ignored(host)}" for host in read_dsn(dsn))
    except DsnError as error:
        return str(error)


# of letters that no message and no other part of the strings below has
PASSWORDS = st.text("QZ" * 8 + "79" + "/@%:?#&=+ '\"\\,;[]{}()<>|!$^*~`\täß", min_size=4, max_size=40)


@settings(deadline=None)
@given(PASSWORDS)
def test_no_piece_of_a_password_is_shown(password: str) -> None:
    for dsn in (f"postgresql://u:{password}@db:5432/x", f"postgresql://u:{password}@db/x?sslmode=require",
                f"postgresql://u:{password}@db/x?pgbouncer=true", f"postgres://{password}@db",
                f"host=db user=u password={password} dbname=x", f"password='{password}' host=db", f"u:{password}@db",
                f"mysql://u:{password}@db/x", f"postgresql:///x?user=u&password={password}&host=db"):  # fmt: skip
        assert leaks(password, said_of(dsn)) == [], dsn


UNESCAPED = ["QQ/77ZZZZ", "QQQQ@ZZZZ", "77/QQQQZZ", "%QQQQ", "7/Q?sslmode=ZZZZ"]


@pytest.mark.parametrize("password", UNESCAPED)
def test_no_command_shows_a_piece_of_a_password(password: str) -> None:
    """serve, check, doctor and alembic: one line, no traceback, nothing of the password."""
    dsn = f"postgresql://u:{password}@127.0.0.1:{free_port()}/x"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    for command, variables in (
        ((sys.executable, "-m", "relay"), {"RELAY_DSN": dsn, "RELAY_JWT_SECRET": SECRET}),
        ((sys.executable, "-m", "relay", "check"), {"RELAY_DSN": dsn, "RELAY_JWT_SECRET": SECRET}),
        ((sys.executable, "-m", "relay", "doctor"), {"AFTER_HOURS_DSN": dsn}),
        ((sys.executable, "-m", "alembic", "upgrade", "head"), {"AFTER_HOURS_DSN": dsn}),
    ):
        done = subprocess.run(
            command, cwd=REPO, env={**kept, **variables}, capture_output=True, text=True, timeout=60, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert "Traceback" not in said
        assert leaks(password, said) == [], said
        assert f"{next(iter(variables))}: can't be read: percent-encode" in said


def test_alembic_and_the_commands_refuse_the_same() -> None:
    with pytest.raises(DsnError, match="pgbouncer"):
        prepare_dsn(ADDRESS + "pgbouncer=true")
    prepare_dsn(ADDRESS + "require_auth=scram-sha-256")  # psycopg is libpq: it can do all that libpq can


def test_libpq_finds_the_authorities_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """psycopg-binary looks in a directory of its own otherwise, which no machine has."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, "")  # so that what is set below is taken back
        monkeypatch.delenv(name)
    paths = ssl.get_default_verify_paths()
    prepare_dsn("")
    assert [os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")] == [paths.cafile, paths.capath]
    monkeypatch.setenv("SSL_CERT_FILE", "/ours")
    prepare_dsn("")
    assert os.environ["SSL_CERT_FILE"] == "/ours"


def test_a_host_prints_no_password() -> None:
    assert "geheim" not in repr(Host("db:5432", {"password": "geheim"}))
