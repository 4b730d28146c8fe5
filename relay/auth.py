"""Who a token speaks for; refuses what isn't signed by our key for our audience; never repeats a token."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import jwt
from jwt.exceptions import InvalidJTIError, InvalidSubjectError

from relay.keys import FileKeys, Keys, KeySet, secret_key

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from relay.settings import Settings

MAX_TOKEN = 4096
LEEWAY = 5.0  # seconds by which our clock and the issuer's may differ

# Base64url as RFC 7515 2 writes it: no padding, no other bytes, unused bits zero. One token, one spelling.
PART = r"(?:[\w-]{4})*(?:[\w-][AQgw]|[\w-]{2}[AEIMQUYcgkosw048])?"
COMPACT = re.compile(rf"{PART}\.{PART}\.{PART}", re.ASCII)

# The words for metrics, by what PyJWT or the standard library raises; the first that fits. The words are a contract.
REASONS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "expired"),
    (jwt.DecodeError, "unreadable"),
    (jwt.ImmatureSignatureError, "immaturesignature"),
    (jwt.InvalidAudienceError, "invalidaudience"),
    (jwt.InvalidIssuerError, "invalidissuer"),
    (jwt.InvalidIssuedAtError, "invalidissuedat"),
    (InvalidSubjectError, "invalidsubject"),
    (InvalidJTIError, "invalidjti"),
    (jwt.MissingRequiredClaimError, "missingrequiredclaim"),
    (jwt.InvalidTokenError, "invalidtoken"),
    (OverflowError, "overflow"),
    (RecursionError, "recursion"),
    (ValueError, "value"),
)


class Refused(Exception):
    """The token is not good. `reason` is a word for metrics; it never holds anything of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token speaks for, and for how long (expires_at: seconds since 1970)."""

    user: UUID
    issued_at: datetime
    expires_at: float


class Verifier:
    """Checks tokens against the keys that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.keys = keys_of(settings)

    def verify(self, token: str) -> Identity:
        """The identity a token proves. Raises Refused."""
        if len(token) > MAX_TOKEN:
            raise Refused("too_long")
        if not COMPACT.fullmatch(token):
            raise Refused("unreadable")
        header = read_header(token)
        reason = "wrong_key"
        for key in self.keys.current().keys:
            if not key.fits(header.get("kid"), header.get("alg")):
                continue
            try:
                claims = jwt.decode(
                    token,
                    key.key,
                    algorithms=key.names,
                    audience=self._settings.jwt_audience,
                    issuer=self._settings.jwt_issuer,
                    leeway=LEEWAY,
                    options={"require": ["exp", "iat", "aud"]},
                )
                return self._identity(claims)
            except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
                continue
            except tuple(kind for kind, _ in REASONS) as error:
                reason = next(word for kind, word in REASONS if isinstance(error, kind))
            break
        raise Refused(reason)

    def identify(self, token: object) -> Identity:
        """The identity that a client's token proves, never issued in the future. Raises Refused.

        The issuer's clock may be ahead of ours. A token from before a disconnect_user() must not pass for one after it.
        """
        if not isinstance(token, str):
            raise Refused("no_token")
        identity = self.verify(token)
        if identity.issued_at.timestamp() > (now := time.time()):
            return replace(identity, issued_at=datetime.fromtimestamp(now, UTC))
        return identity

    def _identity(self, claims: dict[str, Any]) -> Identity:
        for name, reason in (("exp", "unreadable"), ("nbf", "unreadable"), ("iat", "invalidissuedat")):
            value = claims.get(name, 0)  # RFC 7519 2: a NumericDate is a number; PyJWT takes what int() takes
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise Refused(reason)
        user = claims.get(self._settings.user_claim)
        if not isinstance(user, str):
            raise Refused("no_user")
        try:
            user_id = UUID(user)
        except ValueError:
            raise Refused("no_user") from None
        if str(user_id) != user.lower():  # UUID() takes braces, urn:uuid:, digits of other scripts and more
            raise Refused("no_user")
        # A year is for ever: keeps every instant one that can be written.
        expires_at = min(float(claims["exp"]), time.time() + 366 * 86400)
        return Identity(user_id, datetime.fromtimestamp(float(claims["iat"]), UTC), expires_at)


def keys_of(settings: Settings) -> Keys:
    """The keys that the settings name. Raises KeysError and OSError."""
    if settings.jwt_secret is not None:
        return Keys(KeySet((secret_key(settings.jwt_secret.get_secret_value()),)))
    assert settings.jwt_key_file is not None
    return FileKeys(settings.jwt_key_file)


def read_header(token: str) -> dict[str, Any]:
    """What a token says of itself, unchecked: good for choosing a key only. Raises Refused."""
    part = token.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise Refused("unreadable") from None
    if not isinstance(header, dict):
        raise Refused("unreadable")
    return header


def bearer(connection: HTTPConnection) -> str | None:
    """The token of the Authorization header; None if there is no such header."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None
