"""What the environment says (RELAY_*), checked once; refuses what is wrong by its name, shows no secret."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from relay.dsn import read_dsn
from relay.values import Network, list_unknown, parse_networks, parse_origins, split_list, validate_bind, validate_ends

DEVELOPMENT = "development-only-"
OTHER_ENDS = (
    "dsn",
    "jwt_audience",
    "jwt_secret",
    "origins",
    "trusted_proxies",
)  # their own validators look at white space and quotes


class SettingsError(Exception):
    """A setting is missing or wrong; the text names the variable and never shows its value."""


class Settings(BaseSettings):
    """Everything a relay can be told. Durations are seconds."""

    model_config = SettingsConfigDict(
        env_prefix="RELAY_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    dsn: SecretStr = Field(
        description="the database, as role after_hours_relay: all that libpq takes; several hosts are tried in turn"
    )
    bind: str = Field(default="127.0.0.1:8787", description="public address, host:port: /ws, /events, /livez")
    admin_bind: str = Field(
        default="127.0.0.1:8788", description="internal address, host:port: /livez, /readyz, /metrics, /ops"
    )
    node: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        max_length=200,
        description="this relay's name in frames and in after_hours.relays; default: host name and process id",
    )
    jwt_secret: SecretStr | None = Field(
        default=None,
        description="HS256 secret of at least 32 bytes; set this, RELAY_JWT_KEY_FILE or RELAY_JWT_JWKS_URL",
    )
    jwt_key_file: Path | None = Field(
        default=None, description="file with the public key or JSON Web Key Set that tokens are verified with"
    )
    jwt_jwks_url: str | None = Field(
        default=None,
        description="https address of the provider's JSON Web Key Set, instead of a file; see RELAY_JWT_ISSUER",
    )
    jwt_audience: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset({"after-hours"}), min_length=1, description="values of which a token's aud must have one"
    )
    jwt_allow_no_audience: bool = Field(
        default=False,
        description="accept tokens without aud as well, of every application of RELAY_JWT_ISSUER, which must be set",
    )
    jwt_issuer: str | None = Field(default=None, description="value that a token's iss must have; unset: not checked")
    user_claim: str = Field(
        default="sub", min_length=1, description="claim that holds the user's uuid, or id: RELAY_USER_CLAIM_NAMESPACE"
    )
    user_claim_namespace: UUID | None = Field(
        default=None,
        description="uuid, for ids that are none: the user's is uuid5(this, the claim), in SQL uuid_generate_v5()",
    )
    origins: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="origins whose pages may connect, beside the relay's own, for example https://chat.example.org",
    )
    sockets: Literal["push", "stock"] = Field(
        default="push", description="kind of WebSocket: push (2 kB a client) or stock uvicorn (24 kB a client)"
    )
    reuse_port: bool = Field(
        default=False, description="SO_REUSEPORT: several relay processes share RELAY_BIND on one machine"
    )
    trusted_proxies: Annotated[frozenset[Network], NoDecode] = Field(
        default=frozenset({ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128")}),
        description="networks of the proxies whose X-Forwarded-For names the client",
    )
    max_sockets: int = Field(default=16_000, ge=1, le=10_000_000, description="clients in all; more are refused")
    max_sockets_per_user: int = Field(
        default=20, ge=1, description="clients of one user; one more closes the oldest with 4029"
    )
    max_sockets_per_address: int = Field(
        default=500, ge=1, description="clients of one address; more are refused with 503"
    )
    max_handshakes: float = Field(
        default=2000, gt=0, description="handshakes per second in all; more are refused with 503"
    )
    ping_seconds: float = Field(
        default=20, gt=0, description="seconds between two pings; a client that is silent from one to the next is cut"
    )
    stuck_seconds: float = Field(
        default=8, gt=0, description="seconds without reading, with bytes waiting, after which a client is cut"
    )
    token_grace_seconds: float = Field(
        default=10, ge=0, description="seconds after a token's expiry before its client is closed with 4401"
    )
    drain_seconds: float = Field(
        default=10, ge=0, description="seconds that clients get at SIGTERM to move to another relay"
    )
    connect_seconds: float = Field(default=1, gt=0, description="seconds that one host of RELAY_DSN gets to answer")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest level that is logged (JSON lines on stderr)"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _ends(cls, value: Any, info: ValidationInfo) -> Any:
        return validate_ends(value) if isinstance(value, str) and info.field_name not in OTHER_ENDS else value

    @field_validator("origins", mode="before")
    @classmethod
    def _origins(cls, value: Any) -> Any:
        return parse_origins(value) if isinstance(value, str) else value

    @field_validator("jwt_jwks_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None and not is_key_address(value):
            raise ValueError("must be https://host/path, without user, fragment or blanks; http:// on loopback only")
        return value

    @field_validator("jwt_audience", mode="before")
    @classmethod
    def _audiences(cls, value: Any) -> Any:
        return set(split_list(value)) if isinstance(value, str) else value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return parse_networks(value) if isinstance(value, str) else value

    @field_validator("bind", "admin_bind")
    @classmethod
    def _address(cls, value: str) -> str:
        return validate_bind(value)

    @field_validator("dsn")
    @classmethod
    def _dsn(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().strip():
            raise ValueError("is blank; postgresql:// stands for libpq's variables and defaults")
        read_dsn(value.get_secret_value())
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < 32:
            raise ValueError("must be at least 32 bytes, for example from: openssl rand -hex 32")
        try:
            if value is not None:
                HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(value.get_secret_value())
        except InvalidKeyError:
            raise ValueError("is a key or a certificate, not a secret: use RELAY_JWT_KEY_FILE") from None
        if value is not None:
            validate_ends(value.get_secret_value())
        return value

    @field_validator("jwt_key_file")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None and not (value.is_file() and os.access(value, os.R_OK)):
            raise ValueError("is not a readable file")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if sum(each is not None for each in (self.jwt_secret, self.jwt_key_file, self.jwt_jwks_url)) != 1:
            raise ValueError("RELAY_JWT_SECRET or RELAY_JWT_KEY_FILE or RELAY_JWT_JWKS_URL: set one of the three")
        if self.jwt_allow_no_audience and not self.jwt_issuer:
            raise ValueError("RELAY_JWT_ALLOW_NO_AUDIENCE: set RELAY_JWT_ISSUER as well")
        if self.jwt_secret is not None and self.jwt_secret.get_secret_value().startswith(DEVELOPMENT):
            for name in ("bind", "admin_bind"):
                if not is_loopback(getattr(self, name)):
                    raise ValueError(
                        f"RELAY_{name.upper()}: a relay with a development secret binds to loopback only;"
                        " set RELAY_JWT_SECRET to a secret of your own"
                    )
        if self.bind == self.admin_bind and split_address(self.bind)[1]:
            raise ValueError("RELAY_ADMIN_BIND: is the address of RELAY_BIND: the two need a port each")
        return self


def is_key_address(address: str) -> bool:
    """True if keys may be fetched from there: nobody on the way can replace them."""
    try:
        url = urlsplit(address)
        is_local = is_loopback(f"{url.hostname}:{url.port or 0}")
    except ValueError:
        return False
    is_plain = url.username is None and not url.fragment and not any(each.isspace() for each in address)
    return url.scheme in (("https", "http") if is_local else ("https",)) and bool(url.hostname) and is_plain


def load_settings() -> Settings:
    """The settings of this process. Raises SettingsError with one line for each thing that is wrong."""
    try:
        return Settings()  # type: ignore[call-arg] # from the environment
    except ValidationError as error:
        lines = []
        for each in error.errors(include_url=False, include_input=False, include_context=False):
            name = f"RELAY_{'_'.join(str(part) for part in each['loc']).upper()}: " if each["loc"] else ""
            lines.append(
                name + ("is not set" if each["type"] == "missing" else each["msg"].removeprefix("Value error, "))
            )
        raise SettingsError("\n".join(lines)) from None


def unknown_settings() -> list[str]:
    """A line for each variable RELAY_… of the environment that is not a setting."""
    return list_unknown(os.environ, (f"RELAY_{name.upper()}" for name in Settings.model_fields))


def split_address(address: str) -> tuple[str, int]:
    """host:port, with or without brackets around the host, as a pair."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """True if binding to host:port is reachable from this machine only."""
    host = split_address(address)[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
