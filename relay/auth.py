"""Who a token speaks for; refuses what isn't signed by our key for our audience; never repeats a token."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import jwt
from jwt.exceptions import InvalidJTIError, InvalidSubjectError

from relay.jwks import RemoteKeys
from relay.keys import FileKeys, Keys, KeySet, secret_key
from relay.logs import RateLimitedLogger
from relay.protocol import MAX_TOKEN, CloseCode
from relay.state import RelayState

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from relay.settings import Settings

log = logging.getLogger("relay.auth")

LEEWAY = 5.0  # seconds by which our clock and the issuer's may differ

# Base64url as RFC 7515 2 writes it: no padding, no other bytes, unused bits zero. One token, one spelling.
PART = r"(?:[\w-]{4})*(?:[\w-][AQgw]|[\w-]{2}[AEIMQUYcgkosw048])?"
COMPACT = re.compile(rf"{PART}\.{PART}\.{PART}", re.ASCII)

# The words for metrics and the claim they are about, by what PyJWT raises; the first that fits. A contract.
REASONS: tuple[tuple[type[Exception], str, str | None], ...] = (
    (jwt.ExpiredSignatureError, "expired", "exp"),
    (jwt.DecodeError, "unreadable", None),
    (jwt.ImmatureSignatureError, "immaturesignature", None),
    (jwt.InvalidIssuerError, "invalidissuer", "iss"),
    (jwt.InvalidIssuedAtError, "invalidissuedat", "iat"),
    (InvalidSubjectError, "invalidsubject", "sub"),
    (InvalidJTIError, "invalidjti", "jti"),
    (jwt.MissingRequiredClaimError, "missingrequiredclaim", None),
    (jwt.InvalidTokenError, "invalidtoken", None),
    (OverflowError, "overflow", None),
    (RecursionError, "recursion", None),
    (ValueError, "value", None),
)
# What an operator does about tokens that are well-signed and refused, or not signed with our keys: once a minute.
HINTS = {
    "too_long": "they are longer than 16 KiB: let the issuer leave claims out (groups, roles, permissions)",
    "wrong_key": "no key of RELAY_JWT_… has signed them",
    "unknown_key": "their kid is not at RELAY_JWT_JWKS_URL",
    "missingrequiredclaim": "they lack a claim (aud: see RELAY_JWT_AUDIENCE, RELAY_JWT_ALLOW_NO_AUDIENCE)",
    "invalidaudience": "their aud is none of RELAY_JWT_AUDIENCE",
    "invalidissuer": "their iss is not RELAY_JWT_ISSUER",
    "immaturesignature": "they are from the future: synchronise the clocks of relay and issuer",
    "no_user": "RELAY_USER_CLAIM holds no uuid: for ids of another form set RELAY_USER_CLAIM_NAMESPACE",
}


class Refused(Exception):
    """The token is not good: a word for metrics, and the name of the claim that is wrong; nothing of the token."""

    def __init__(self, reason: str, claim: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.claim = reason, claim

    @property
    def code(self) -> CloseCode:
        """What the connection is closed with: another token of the same make would be too long again."""
        return CloseCode.BAD_FRAME if self.reason == "too_long" else CloseCode.TOKEN

    @property
    def details(self) -> dict[str, str]:
        """Both, for the client."""
        return {"reason": self.reason} | ({"claim": self.claim} if self.claim else {})


class UnknownKey(Refused):
    """The token says that it is signed with a key that we don't have."""

    def __init__(self) -> None:
        super().__init__("unknown_key")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token speaks for, and for how long (expires_at: seconds since 1970)."""

    user: UUID
    issued_at: datetime
    expires_at: float


class Verifier:
    """Checks tokens against the keys that the settings name."""

    def __init__(self, settings: Settings, state: RelayState | None = None) -> None:
        self._settings = settings
        self._log = RateLimitedLogger(log)
        self.keys = keys_of(settings, state or RelayState())

    def verify(self, token: str) -> Identity:
        """The identity a token proves. Raises Refused."""
        if len(token) > MAX_TOKEN:
            raise Refused("too_long")
        if not COMPACT.fullmatch(token):
            raise Refused("unreadable")
        header = read_header(token)
        for key in self.keys.current().keys:
            if not key.fits(header.get("kid"), header.get("alg")):
                continue
            try:
                claims = jwt.decode(
                    token,
                    key.key,
                    algorithms=key.names,
                    issuer=self._settings.jwt_issuer,
                    leeway=LEEWAY,
                    options={"require": ["exp", "iat"], "verify_aud": False},  # _check_audience() does
                )
                self._check_audience(claims.get("aud"))
                return self._identity(claims)
            except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
                continue
            except tuple(kind for kind, _, _ in REASONS) as error:
                raise refusal_for(error) from None
        raise UnknownKey if self._is_unknown(header.get("kid")) else Refused("wrong_key")

    async def authenticate(self, token: object) -> Identity:
        """identify(), after renewing the keys if the token's is not among them. Raises KeysUnavailable as well."""
        try:
            return self.identify(token)
        except UnknownKey:
            await self.keys.renew()
        try:
            return self.identify(token)
        except UnknownKey as refused:
            self._tell(refused)
            raise

    def identify(self, token: object) -> Identity:
        """The identity that a client's token proves, never issued in the future. Raises Refused.

        The issuer's clock may be ahead of ours. A token from before a disconnect_user() must not pass for one after it.
        """
        if not isinstance(token, str):
            raise Refused("no_token")
        try:
            identity = self.verify(token)
        except UnknownKey:
            raise
        except Refused as refused:
            self._tell(refused)
            raise
        if identity.issued_at.timestamp() > (now := time.time()):
            return replace(identity, issued_at=datetime.fromtimestamp(now, UTC))
        return identity

    def _tell(self, refused: Refused) -> None:
        if refused.reason in HINTS:
            self._log.warning(f"tokens are refused: {HINTS[refused.reason]}", **refused.details)

    def _is_unknown(self, kid: object) -> bool:
        """True if renewing the keys might bring one that fits."""
        known = {key.kid for key in self.keys.current().keys}
        return self.keys.is_renewable and (kid not in known if isinstance(kid, str) else not known or None in known)

    def _check_audience(self, audience: object) -> None:
        """RFC 7519, 4.1.3: a text or a list of texts, of which one is ours. Raises Refused."""
        if audience is None:
            if not self._settings.jwt_allow_no_audience:
                raise Refused("missingrequiredclaim", "aud")
            return
        given = audience if isinstance(audience, list) else [audience]
        if not all(isinstance(each, str) for each in given) or not self._settings.jwt_audience.intersection(given):
            raise Refused("invalidaudience", "aud")

    def _identity(self, claims: dict[str, Any]) -> Identity:
        for name, reason in (("exp", "unreadable"), ("nbf", "unreadable"), ("iat", "invalidissuedat")):
            value = claims.get(name, 0)  # RFC 7519 2: a NumericDate is a number; PyJWT takes what int() takes
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise Refused(reason, name)
        name = self._settings.user_claim
        user = user_id(claims.get(name), self._settings.user_claim_namespace)
        if user is None:
            raise Refused("no_user", name)
        # A year is for ever: keeps every instant one that can be written.
        expires_at = min(float(claims["exp"]), time.time() + 366 * 86400)
        return Identity(user, datetime.fromtimestamp(float(claims["iat"]), UTC), expires_at)


def user_id(claim: object, namespace: UUID | None) -> UUID | None:
    """The user that a claim names, as it stands or by its hash in a namespace (RFC 9562, 5.5); None: no user."""
    if not isinstance(claim, str) or not claim:
        return None
    try:
        user = UUID(claim) if namespace is None else uuid5(namespace, claim)
    except ValueError:
        return None
    # UUID() takes braces, urn:uuid:, digits of other scripts and more
    return user if namespace is not None or str(user) == claim.lower() else None


def refusal_for(error: Exception) -> Refused:
    """What PyJWT or the standard library says of a token, in the words of REASONS."""
    reason, claim = next((word, claim) for kind, word, claim in REASONS if isinstance(error, kind))
    if isinstance(error, jwt.MissingRequiredClaimError):
        claim = error.claim
    elif isinstance(error, jwt.ImmatureSignatureError):
        claim = "iat" if "(iat)" in str(error) else "nbf"
    return Refused(reason, claim)


def keys_of(settings: Settings, state: RelayState) -> Keys:
    """The keys that the settings name. Raises KeysError and OSError."""
    if settings.jwt_secret is not None:
        return Keys(KeySet((secret_key(settings.jwt_secret.get_secret_value()),)))
    if settings.jwt_key_file is not None:
        return FileKeys(settings.jwt_key_file)
    assert settings.jwt_jwks_url is not None
    return RemoteKeys(settings.jwt_jwks_url, state)


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
