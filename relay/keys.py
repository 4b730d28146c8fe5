"""The keys that tokens are verified with: which keys of a set are used, for which algorithm, and why others are not."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from relay.logs import RateLimitedLogger

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("relay.keys")

LEAST_RSA = 2048  # bits; RFC 7518, 3.3
NAMED = 10  # keys that a line names
RSA_NAMES = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")  # the first is that of a key without alg
CURVE_NAMES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "secp256k1": "ES256K"}
EDWARDS_NAMES = ("EdDSA", "Ed25519")  # one algorithm: RFC 8037 named it, RFC 9864 renamed it

jwt.register_algorithm("Ed25519", OKPAlgorithm())  # PyJWT 2.15 knows the old name only


class KeysError(ValueError):
    """There is no key that can be used; the text says why."""


class KeysUnavailable(Exception):
    """Whether a token is good can't be told yet: a word for metrics, and when to come back."""

    def __init__(self, reason: str, retry_ms: int) -> None:
        super().__init__(reason)
        self.reason, self.retry_ms = reason, retry_ms


@dataclass(frozen=True, slots=True)
class Key:
    """One key and the one algorithm it is for, by all of its names: what a token says about that is not believed."""

    key: Any
    names: tuple[str, ...]
    kid: str | None = None

    def fits(self, kid: object, algorithm: object) -> bool:
        """True if a token that says this of itself may have been signed with this key."""
        return algorithm in self.names and (self.kid is None or kid is None or kid == self.kid)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys to use, and for each of the others its kid and why it is not used."""

    keys: tuple[Key, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Both in one line."""
        used = ", ".join(f"{key.names[0]} {shown(key.kid or '')}".strip() for key in self.keys[:NAMED])
        line = f"{len(self.keys)} used: {used}"
        if self.skipped:
            line += f"; {len(self.skipped)} not used: {', '.join(self.skipped[:NAMED])}"
        return line


class Keys:
    """Keys that stay as they are; the base of those that don't."""

    is_renewable = False

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def current(self) -> KeySet:
        """The keys to verify a token with now."""
        return self._keys

    async def follow(self) -> None:
        """Keep the keys current for as long as the process runs."""

    async def renew(self) -> None:
        """Look for the key of a token that none of these fits, if is_renewable. Raises KeysUnavailable."""

    async def read(self) -> KeySet:
        """The keys as their source has them now. Raises KeysError."""
        return self.current()

    def _adopt(self, keys: KeySet) -> None:
        self._keys = keys
        log.log(logging.WARNING if keys.skipped else logging.INFO, "keys read", extra={"keys": keys.summary})


class FileKeys(Keys):
    """The keys of a file (PEM or JSON Web Key Set), re-read when it has changed."""

    def __init__(self, path: Path) -> None:
        super().__init__(KeySet())
        self._path = path
        self._version: tuple[int, int] | None = None
        self._log = RateLimitedLogger(log)
        self._read()

    def current(self) -> KeySet:
        """The keys of the file; those of before if it can't be read."""
        try:
            self._read()
        except (OSError, ValueError) as error:
            self._log.warning("keys not re-read, the old ones stay", error=str(error))
        return self._keys

    def _read(self) -> None:
        status = self._path.stat()
        version = (status.st_mtime_ns, status.st_ino)
        if version != self._version:
            self._version = version
            self._adopt(read_keys(self._path.read_bytes()))


def read_keys(data: bytes) -> KeySet:
    """The keys of a PEM public key, a JSON Web Key or a JSON Web Key Set. Raises KeysError."""
    data = data.removeprefix(b"\xef\xbb\xbf").strip()
    if not data.startswith(b"{"):
        return KeySet((read_pem(data),))
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        raise KeysError("is not JSON") from None
    each = [parsed] if "kty" in parsed else parsed.get("keys")
    if not isinstance(each, list):
        raise KeysError('is no JSON Web Key Set: it has no list "keys"')
    keys, skipped = [], []
    for number, one in enumerate(each, 1):
        try:
            keys.append(read_jwk(one))
        except KeysError as error:
            kid = one.get("kid") if isinstance(one, dict) else None
            skipped.append(f"{shown(kid) if kid else f'number {number}'} ({error})")
    if not keys:
        raise KeysError(f"has no key that can be used: {', '.join(skipped[:NAMED]) or 'it is empty'}")
    return KeySet(tuple(keys), tuple(skipped))


def read_pem(data: bytes) -> Key:
    """A public key in PEM, for the algorithm that its kind is mostly used with. Raises KeysError."""
    try:
        key = load_pem_public_key(data)
    except Exception:
        raise KeysError("is neither a public key in PEM (BEGIN PUBLIC KEY) nor a JSON Web Key Set") from None
    if isinstance(key, rsa.RSAPublicKey):
        return read_jwk(RSAAlgorithm.to_jwk(key, as_dict=True))
    if isinstance(key, ec.EllipticCurvePublicKey):
        return read_jwk(ECAlgorithm.to_jwk(key, as_dict=True))
    if isinstance(key, ed25519.Ed25519PublicKey):
        return read_jwk(OKPAlgorithm.to_jwk(key, as_dict=True))
    raise KeysError("is neither an RSA, an elliptic curve nor an Ed25519 key")


def read_jwk(jwk: object) -> Key:
    """One JSON Web Key. Raises KeysError that says why it is not used."""
    if not isinstance(jwk, dict):
        raise KeysError("no JSON object")
    if (use := jwk.get("use") or "sig") != "sig":
        raise KeysError(f"use {shown(use)}")
    if isinstance(uses := jwk.get("key_ops"), list) and "verify" not in uses:
        raise KeysError("key_ops without verify")
    names = names_for(jwk)
    if "d" in jwk:
        raise KeysError("a private key")
    name = jwk.get("alg") or names[0]
    if name not in names:
        raise KeysError(f"alg {shown(name)}")
    kid = jwk.get("kid")
    if not isinstance(kid, (str, type(None))):
        raise KeysError("kid is no text")
    try:
        key = jwt.PyJWK(jwk, "EdDSA" if name in EDWARDS_NAMES else name).key
    except Exception:  # whatever one odd key makes PyJWT raise, the others are used
        raise KeysError("not readable") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA:
        raise KeysError(f"RSA of {key.key_size} bits")
    return Key(key, EDWARDS_NAMES if name in EDWARDS_NAMES else (name,), kid)


def names_for(jwk: dict[str, Any]) -> tuple[str, ...]:
    """The names of the algorithms that a key may be for, the usual one first. Raises KeysError."""
    match jwk.get("kty"), jwk.get("crv"):
        case "RSA", _:
            return RSA_NAMES
        case "EC", str(curve) if curve in CURVE_NAMES:
            return (CURVE_NAMES[curve],)
        case "OKP", "Ed25519":
            return EDWARDS_NAMES
        case "oct", _:
            raise KeysError("a secret")
        case kind, curve:
            raise KeysError(f"kty {shown(kind)}" + (f" crv {shown(curve)}" if curve else ""))


def secret_key(secret: str) -> Key:
    """A secret, for HS256."""
    key = jwt.PyJWK({"kty": "oct", "k": base64.urlsafe_b64encode(secret.encode()).decode()}, "HS256")
    key.Algorithm = Prepared(HMACAlgorithm.SHA256)
    return Key(key, ("HS256",))


class Prepared(HMACAlgorithm):
    """PyJWT looks at a secret anew for each token (a PEM? a certificate? JSON?), 10 of 35 µs. The settings have."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()


def shown(value: object) -> str:
    """What a key set says, short enough for a line."""
    return value[:40] if isinstance(value, str) and value.isprintable() else repr(value)[:40]
