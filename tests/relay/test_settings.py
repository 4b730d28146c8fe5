"""Wrong settings are reported by name, without their value; a development secret is accepted on loopback only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from relay.settings import Settings, SettingsError, is_loopback, load_settings, unknown_settings

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {"RELAY_DSN": "postgresql://u:geheim@db/x", "RELAY_JWT_SECRET": "s" * 32}

SPECIAL = "geheim" * 8


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
        ({"RELAY_DSN": ""}, "RELAY_DSN: is not set"),
        ({"RELAY_DSN": " "}, "RELAY_DSN: is blank"),
        (
            {"RELAY_JWT_SECRET": "", "RELAY_JWT_KEY_FILE": ""},
            "RELAY_JWT_SECRET or RELAY_JWT_KEY_FILE or RELAY_JWT_JWKS_URL: set one",
        ),
        ({"RELAY_JWT_SECRET": SPECIAL + "\n"}, "RELAY_JWT_SECRET: has white space around it"),
        ({"RELAY_JWT_SECRET": SPECIAL + "\r"}, "RELAY_JWT_SECRET: has white space around it"),
        ({"RELAY_JWT_SECRET": " " + SPECIAL}, "RELAY_JWT_SECRET: has white space around it"),
        ({"RELAY_JWT_SECRET": f'"{SPECIAL}"'}, "RELAY_JWT_SECRET: has quotes around it"),
        ({"RELAY_JWT_SECRET": f"'{SPECIAL}'"}, "RELAY_JWT_SECRET: has quotes around it"),
        ({"RELAY_JWT_SECRET": " " * 40}, "RELAY_JWT_SECRET: has white space around it"),
        ({"RELAY_JWT_SECRET": SPECIAL + "\udcff"}, "RELAY_JWT_SECRET"),
        ({"RELAY_JWT_ISSUER": "https://geheim/\n"}, "RELAY_JWT_ISSUER: has white space around it"),
        ({"RELAY_JWT_AUDIENCE": '"geheim"'}, "RELAY_JWT_AUDIENCE: entry 1: has quotes in it"),
        ({"RELAY_USER_CLAIM": "sub "}, "RELAY_USER_CLAIM: has white space around it"),
        ({"RELAY_BIND": '"127.0.0.1:1"'}, "RELAY_BIND: has quotes around it"),
        ({"RELAY_BIND": "*:8787"}, "RELAY_BIND: must be host:port"),
        ({"RELAY_BIND": "8787"}, "RELAY_BIND: must be host:port"),
        ({"RELAY_BIND": "127.0.0.1"}, "RELAY_BIND: must be host:port"),
        ({"RELAY_BIND": "::1:8787"}, "RELAY_BIND: must be host:port"),
        ({"RELAY_BIND": "[127.0.0.1]:8787"}, "RELAY_BIND: must be host:port"),
        ({"RELAY_BIND": "[::1]"}, "RELAY_BIND: must be host:port"),
        ({"RELAY_BIND": "127.0.0.1:-1"}, "RELAY_BIND: must be host:port"),
        ({"RELAY_BIND": "127.0.0.256:1"}, "RELAY_BIND: must be host:port"),
        ({"RELAY_BIND": "http://127.0.0.1:1"}, "RELAY_BIND: must be host:port"),
        ({"RELAY_BIND": "unix:/run/relay"}, "RELAY_BIND: must be host:port"),
        ({"RELAY_BIND": "127.0.0.1:8788"}, "RELAY_ADMIN_BIND: is the address of RELAY_BIND"),
        ({"RELAY_PING_SECONDS": "inf"}, "RELAY_PING_SECONDS"),
        ({"RELAY_MAX_HANDSHAKES": "nan"}, "RELAY_MAX_HANDSHAKES"),
        ({"RELAY_MAX_SOCKETS": "1e99"}, "RELAY_MAX_SOCKETS"),
        ({"RELAY_MAX_SOCKETS": "1" + "0" * 30}, "RELAY_MAX_SOCKETS"),
        ({"RELAY_ORIGINS": "*"}, "RELAY_ORIGINS: entry 1: there are no wildcards"),
        ({"RELAY_ORIGINS": "https://a.example,https://*.geheim"}, "RELAY_ORIGINS: entry 2: there are no wildcards"),
        ({"RELAY_ORIGINS": '["https://geheim"]'}, "RELAY_ORIGINS: is a list separated by commas, not JSON"),
        ({"RELAY_ORIGINS": "app.geheim"}, "RELAY_ORIGINS: entry 1: has no scheme"),
        ({"RELAY_ORIGINS": "app.geheim:8443"}, "RELAY_ORIGINS: entry 1: has no scheme"),
        (
            {"RELAY_ORIGINS": "https://a.geheim https://b.geheim"},
            "RELAY_ORIGINS: entry 1: entries are separated by commas",
        ),
        (
            {"RELAY_ORIGINS": "https://a.geheim;https://b.geheim"},
            "RELAY_ORIGINS: entry 1: entries are separated by commas",
        ),
        ({"RELAY_ORIGINS": "'https://a.geheim'"}, "RELAY_ORIGINS: entry 1: has quotes in it"),
        ({"RELAY_ORIGINS": "https://a.geheim/app"}, "RELAY_ORIGINS: entry 1: an origin is scheme, host and port"),
        ({"RELAY_ORIGINS": "https://u:geheim@a.example"}, "RELAY_ORIGINS: entry 1: an origin is scheme, host and port"),
        ({"RELAY_ORIGINS": "https://a.example?geheim"}, "RELAY_ORIGINS: entry 1: an origin is scheme, host and port"),
        ({"RELAY_ORIGINS": "https://a.example:geheim"}, "RELAY_ORIGINS: entry 1: is not https://HOST"),
        ({"RELAY_ORIGINS": "https://"}, "RELAY_ORIGINS: entry 1: an origin is scheme, host and port"),
        ({"RELAY_ORIGINS": "https://[geheim"}, "RELAY_ORIGINS: entry 1: is not https://HOST"),
        ({"RELAY_ORIGINS": "wss://a.geheim"}, "RELAY_ORIGINS: entry 1: an origin is the address of the page"),
        ({"RELAY_TRUSTED_PROXIES": "*"}, "RELAY_TRUSTED_PROXIES: entry 1: is not a network"),
        ({"RELAY_TRUSTED_PROXIES": "geheim"}, "RELAY_TRUSTED_PROXIES: entry 1: is not a network"),
        ({"RELAY_TRUSTED_PROXIES": "10.0.0.1:80"}, "RELAY_TRUSTED_PROXIES: entry 1: is not a network"),
        (
            {"RELAY_TRUSTED_PROXIES": "::1, 10.0.0.1/8"},
            "RELAY_TRUSTED_PROXIES: entry 2: is an address inside of a network",
        ),
        (
            {"RELAY_TRUSTED_PROXIES": "10.0.0.0/8 ::1"},
            "RELAY_TRUSTED_PROXIES: entry 1: entries are separated by commas",
        ),
        ({"RELAY_TRUSTED_PROXIES": '["10.0.0.0/8"]'}, "RELAY_TRUSTED_PROXIES: is a list separated by commas, not JSON"),
        ({"RELAY_JWT_JWKS_URL": "https://geheim/x"}, "RELAY_JWT_JWKS_URL: set one"),
        ({"RELAY_JWT_JWKS_URL": "http://geheim.example/x"}, "RELAY_JWT_JWKS_URL: must be https://host/path"),
        ({"RELAY_JWT_JWKS_URL": "https://u:geheim@x/x"}, "RELAY_JWT_JWKS_URL: must be https://host/path"),
        ({"RELAY_JWT_JWKS_URL": "https://x:geheim/x"}, "RELAY_JWT_JWKS_URL: must be https://host/path"),
        ({"RELAY_JWT_JWKS_URL": "file:///geheim"}, "RELAY_JWT_JWKS_URL: must be https://host/path"),
        ({"RELAY_JWT_JWKS_URL": "https://x/geheim "}, "RELAY_JWT_JWKS_URL: has white space around it"),
        ({"RELAY_JWT_JWKS_URL": "https://\u2100geheim/"}, "RELAY_JWT_JWKS_URL: must be https://host/path"),
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
def test_a_wrong_setting_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None], name: str
) -> None:
    for variable, value in {**GOOD, **change}.items():
        if value is not None:
            monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert name in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert "geheim" not in str(refused.value)
    assert "xxxx" not in str(refused.value)


def test_valid_settings_are_read_and_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, value in GOOD.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("RELAY_BIND", "[::1]:1")
    monkeypatch.setenv("RELAY_ORIGINS", " https://a.example/, http://b:81 ")
    settings = load_settings()
    assert settings.origins == {"https://a.example", "http://b:81"}
    assert "geheim" not in repr(settings)
    assert "ssss" not in repr(settings)
    monkeypatch.setenv("RELAY_BIND", "0.0.0.0:1")
    assert load_settings().bind == "0.0.0.0:1", "with another secret any address is accepted"


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("HTTPS://App.Example.org:443", {"https://app.example.org"}),
        ("http://A:80/,http://a:8080, https://a:80", {"http://a", "http://a:8080", "https://a:80"}),
        ("https://b\u00fccher.example", {"https://xn--bcher-kva.example"}),
        ("https://[::1]:8443,http://127.0.0.1", {"https://[::1]:8443", "http://127.0.0.1"}),
        ("capacitor://localhost,null", {"capacitor://localhost", "null"}),
        (" , ", set()),
    ],
)
def test_origins_are_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch, text: str, origins: set[str]) -> None:
    for variable, value in {**GOOD, "RELAY_ORIGINS": text}.items():
        monkeypatch.setenv(variable, value)
    assert load_settings().origins == origins


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in GOOD.items():
        monkeypatch.setenv(variable, value)
    plain = load_settings()
    for name in Settings.model_fields:
        if f"RELAY_{name.upper()}" not in GOOD:
            monkeypatch.setenv(f"RELAY_{name.upper()}", "")
    assert load_settings() == plain


def test_networks_and_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {**GOOD, "RELAY_TRUSTED_PROXIES": "10.0.0.0/8, 192.168.1.1,fd00::/8"}.items():
        monkeypatch.setenv(variable, value)
    assert {str(each) for each in load_settings().trusted_proxies} == {"10.0.0.0/8", "192.168.1.1/32", "fd00::/8"}


def test_a_name_that_is_no_setting_is_told_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RELAY_ORIGIN", "RELAY_JWT_SECERT", "relay_dns", "RELAY_XYZ", "RELAY_TOKEN", "RELAY_PORT",
                 "RELAY_PORT_8787_TCP_ADDR", "RELAY_SERVICE_HOST", "RELAY_NODE", "OTHER"):  # fmt: skip
        monkeypatch.setenv(name, "geheim")
    assert unknown_settings() == [
        "RELAY_DNS is not a setting: is RELAY_DSN meant?",
        "RELAY_JWT_SECERT is not a setting: is RELAY_JWT_SECRET meant?",
        "RELAY_ORIGIN is not a setting: is RELAY_ORIGINS meant?",
        "RELAY_XYZ is not a setting",
    ]


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True), ("localhost:1", True), ("0.0.0.0:1", False),
     ("[::]:1", False), ("10.0.0.1:1", False), ("example.com:1", False), ("127.0.0.1.example.com:1", False)],
)  # fmt: skip
def test_loopback_addresses_are_recognised(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback
