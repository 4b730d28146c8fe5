"""Settings are refused by name, without their value; a development secret stays on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from relay.database.session import split_hosts
from relay.settings import SettingsError, is_loopback, load_settings

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {"RELAY_DSN": "postgresql://u:geheim@db/x", "RELAY_JWT_SECRET": "s" * 32}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("RELAY_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"RELAY_DSN": None}, "RELAY_DSN: is not set"),
        ({"RELAY_DSN": "mysql://geheim"}, "RELAY_DSN"),
        ({"RELAY_JWT_SECRET": None}, "RELAY_JWT_SECRET or RELAY_JWT_KEY_FILE"),
        ({"RELAY_JWT_SECRET": "geheim"}, "RELAY_JWT_SECRET: must be at least 32 bytes"),
        ({"RELAY_JWT_KEY_FILE": "/geheim/nowhere"}, "RELAY_JWT_KEY_FILE"),
        ({"RELAY_JWT_KEY_FILE": __file__}, "RELAY_JWT_SECRET or RELAY_JWT_KEY_FILE or RELAY_JWT_JWKS_URL: set one"),
        ({"RELAY_JWT_JWKS_URL": "https://geheim/x"}, "RELAY_JWT_JWKS_URL: set one"),
        ({"RELAY_JWT_JWKS_URL": "http://geheim.example/x"}, "RELAY_JWT_JWKS_URL: must be https://host/path"),
        ({"RELAY_JWT_JWKS_URL": "https://u:geheim@x/x"}, "RELAY_JWT_JWKS_URL: must be https://host/path"),
        ({"RELAY_JWT_JWKS_URL": "https://x:geheim/x"}, "RELAY_JWT_JWKS_URL: must be https://host/path"),
        ({"RELAY_JWT_JWKS_URL": "file:///geheim"}, "RELAY_JWT_JWKS_URL: must be https://host/path"),
        ({"RELAY_JWT_JWKS_URL": "https://x/geheim "}, "RELAY_JWT_JWKS_URL: must be https://host/path"),
        ({"RELAY_JWT_JWKS_URL": "https://\u2100geheim/"}, "RELAY_JWT_JWKS_URL: must be https://host/path"),
        ({"RELAY_JWT_AUDIENCE": ""}, "RELAY_JWT_AUDIENCE"),
        ({"RELAY_JWT_AUDIENCE": " , "}, "RELAY_JWT_AUDIENCE"),
        ({"RELAY_JWT_ALLOW_NO_AUDIENCE": "true"}, "RELAY_JWT_ALLOW_NO_AUDIENCE: set RELAY_JWT_ISSUER as well"),
        ({"RELAY_USER_CLAIM_NAMESPACE": "geheim"}, "RELAY_USER_CLAIM_NAMESPACE"),
        ({"RELAY_BIND": "geheim"}, "RELAY_BIND"),
        ({"RELAY_BIND": ":80"}, "RELAY_BIND"),
        ({"RELAY_BIND": "0.0.0.0:99999"}, "RELAY_BIND"),
        ({"RELAY_ADMIN_BIND": "127.0.0.1:geheim"}, "RELAY_ADMIN_BIND"),
        ({"RELAY_SOCKETS": "geheim"}, "RELAY_SOCKETS"),
        ({"RELAY_MAX_SOCKETS": "0"}, "RELAY_MAX_SOCKETS"),
        ({"RELAY_DRAIN_SECONDS": "geheim"}, "RELAY_DRAIN_SECONDS"),
        ({"RELAY_LOG_LEVEL": "geheim"}, "RELAY_LOG_LEVEL"),
        ({"RELAY_JWT_SECRET": "development-only-" + "x" * 32, "RELAY_BIND": "0.0.0.0:8787"}, "RELAY_BIND"),
        ({"RELAY_JWT_SECRET": "development-only-" + "x" * 32, "RELAY_ADMIN_BIND": "[::]:1"}, "RELAY_ADMIN_BIND"),
    ],
)
def test_what_is_wrong_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None], name: str
) -> None:
    for variable, value in {**GOOD, **change}.items():
        if value is not None:
            monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert name in str(refused.value)
    assert "geheim" not in str(refused.value)
    assert "xxxx" not in str(refused.value)


def test_good_settings_and_secrets_that_do_not_print(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, value in GOOD.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("RELAY_BIND", "[::1]:1")
    monkeypatch.setenv("RELAY_ORIGINS", " https://a.example/, http://b:81 ")
    settings = load_settings()
    assert settings.origins == {"https://a.example", "http://b:81"}
    assert "geheim" not in repr(settings)
    assert "ssss" not in repr(settings)
    monkeypatch.setenv("RELAY_BIND", "0.0.0.0:1")
    assert load_settings().bind == "0.0.0.0:1", "a secret of one's own may bind anywhere"


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://u@a/x", ["postgresql://u@a/x"]),
        ("postgresql://u:p@a:1,b:2/x?sslmode=require", [
            "postgresql://u:p@a:1/x?sslmode=require", "postgresql://u:p@b:2/x?sslmode=require",
        ]),
        ("postgresql://u@/x?host=/tmp,/run&port=5", [
            "postgresql://u@/x?host=%2Ftmp&port=5", "postgresql://u@/x?host=%2Frun&port=5",
        ]),
        ("postgresql:///x?host=a,b&port=1,2", ["postgresql:///x?host=a&port=1", "postgresql:///x?host=b&port=2"]),
    ],
)  # fmt: skip
def test_hosts_are_tried_one_by_one(dsn: str, hosts: list[str]) -> None:
    assert [host.replace("%2F", "/") for host in split_hosts(dsn)] == [host.replace("%2F", "/") for host in hosts]


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True), ("localhost:1", True), ("0.0.0.0:1", False),
     ("[::]:1", False), ("10.0.0.1:1", False), ("example.com:1", False), ("127.0.0.1.example.com:1", False)],
)  # fmt: skip
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback
