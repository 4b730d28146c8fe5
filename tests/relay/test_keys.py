"""Key sets as providers publish them: what can be used is used, the rest is named, and no key serves for another use."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from relay.auth import Refused, Verifier
from relay.keys import KeysError, read_jwk, read_keys
from tests.relay.test_auth import RSA, USER, claims, forge, with_file

if TYPE_CHECKING:
    from pathlib import Path

OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - is to be refused
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
K256, ED = ec.generate_private_key(ec.SECP256K1()), ed25519.Ed25519PrivateKey.generate()


def as_jwk(key: Any, *, private: bool = False, **more: Any) -> dict[str, Any]:
    """The public half of a key as a provider publishes it."""
    kind: Any = (
        RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey)
        else ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else OKPAlgorithm
    )  # fmt: skip
    jwk = kind.to_jwk(key if private else key.public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    return {**jwk, **more}


def key_set(*keys: Any) -> str:
    return json.dumps({"keys": keys})


def token(key: Any, algorithm: str, kid: str | None = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": kid} if kid else None)


def is_accepted(verifier: Verifier, token: str) -> bool:
    try:
        return verifier.verify(token).user == USER
    except Refused as refused:
        if refused.reason != "wrong_key":
            raise
        return False


OCT = {"kty": "oct", "k": base64.urlsafe_b64encode(b"k" * 40).decode(), "alg": "HS256", "kid": "shared"}


@pytest.mark.parametrize("odd", [
    OCT, as_jwk(RSA, kid="e", use="enc"), as_jwk(RSA, kid="e", use="enc", alg="RSA-OAEP"), as_jwk(RSA, alg="RSA-OAEP"),
    as_jwk(RSA, alg="RS1"), as_jwk(P256, alg="ES384"), as_jwk(RSA, private=True), as_jwk(ED, private=True),
    as_jwk(RSA, key_ops=["encrypt"]), as_jwk(WEAK), {"kty": "OKP", "crv": "X25519", "x": "AA"}, {"kty": "EC"},
    {"kty": "EC", "crv": "P-256", "x": "!", "y": 7}, {"kty": "RSA"}, {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
    {"kty": "EC", "crv": "brainpoolP256r1", "x": "AA", "y": "AA"}, {}, [], None, 7, "x", {"kty": ["RSA"]},
    as_jwk(RSA, kid=7), as_jwk(RSA, use=["sig"]), as_jwk(RSA, alg={"a": 1}),
])  # fmt: skip
def test_an_odd_key_takes_no_other_away(odd: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """CASES 2: one unusable key refused the whole file, and a key for encryption verified tokens."""
    verifier = with_file(tmp_path / "jwks", key_set(odd, as_jwk(P256, kid="good")))
    assert is_accepted(verifier, token(P256, "ES256", "good"))
    assert is_accepted(verifier, token(P256, "ES256"))
    assert not is_accepted(verifier, token(RSA, "RS256"))
    assert not is_accepted(verifier, token(RSA, "RS256", "e"))
    assert not is_accepted(verifier, forge({"alg": "HS256", "kid": "shared"}, claims(), b"k" * 40))
    (line,) = [record for record in caplog.records if record.name == "relay.keys"]
    assert line.levelno == logging.WARNING
    assert line.__dict__["keys"].startswith("1 used: ES256 good; 1 not used: ")


def test_one_line_names_what_is_not_used() -> None:
    text = key_set(OCT, as_jwk(RSA, kid="e\nnc", use="enc"), as_jwk(WEAK), 7, as_jwk(ED, kid="ok"))
    assert read_keys(text.encode()).summary == (
        "1 used: EdDSA ok; 4 not used: shared (a secret), 'e\\nnc' (use enc), number 3 (RSA of 1024 bits),"
        " number 4 (no JSON object)"
    )
    many = read_keys(key_set(*[OCT] * 5000, as_jwk(ED)).encode()).summary
    assert len(many) < 400


NAMES = [
    *((RSA, name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    (P256, "ES256"), (P384, "ES384"), (ec.generate_private_key(ec.SECP521R1()), "ES512"), (K256, "ES256K"),
    (ED, "EdDSA"), (ED, "Ed25519"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "name"), NAMES, ids=[name for _, name in NAMES])
def test_a_key_is_for_its_algorithm_only(key: Any, name: str, tmp_path: Path) -> None:
    """CASES 2: PS256 and RS512 were read as RS256, and their tokens refused."""
    verifier = with_file(tmp_path / "jwks", key_set(as_jwk(key, alg=name, use="sig", kid="one")))
    accepted = {other for mine, other in NAMES if mine is key and is_accepted(verifier, token(key, other, "one"))}
    assert accepted == ({"EdDSA", "Ed25519"} if key is ED else {name})


@pytest.mark.parametrize(
    ("key", "expected"), [(RSA, {"RS256"}), (P384, {"ES384"}), (K256, {"ES256K"}), (ED, {"EdDSA", "Ed25519"})]
)
def test_a_key_without_alg_is_for_the_usual_one(key: Any, expected: set[str], tmp_path: Path) -> None:
    """keycloak #6640, Entra: keys without alg."""
    verifier = with_file(tmp_path / "jwks", key_set(as_jwk(key, kid="one")))
    assert {name for mine, name in NAMES if mine is key and is_accepted(verifier, token(key, name))} == expected


def test_a_token_without_kid_is_tried_with_all_keys_that_fit(tmp_path: Path) -> None:
    keys = [as_jwk(P384, kid="a"), as_jwk(OTHER_RSA, kid="b"), as_jwk(RSA, kid="c"), as_jwk(ED)]
    verifier = with_file(tmp_path / "jwks", key_set(*keys))
    assert is_accepted(verifier, token(RSA, "RS256"))
    assert is_accepted(verifier, token(RSA, "RS256", "c"))
    assert is_accepted(verifier, token(ED, "Ed25519", "any"))  # that key says nothing of a kid
    assert not is_accepted(verifier, token(RSA, "RS256", "b"))


def test_two_keys_with_one_kid_are_both_tried(tmp_path: Path) -> None:
    verifier = with_file(tmp_path / "jwks", key_set(as_jwk(OTHER_RSA, kid="x"), as_jwk(RSA, kid="x")))
    assert is_accepted(verifier, token(RSA, "RS256", "x"))


def test_one_key_without_a_set_and_a_byte_order_mark(tmp_path: Path) -> None:
    assert is_accepted(with_file(tmp_path / "a", json.dumps(as_jwk(RSA))), token(RSA, "RS256"))
    assert is_accepted(with_file(tmp_path / "b", "\ufeff" + key_set(as_jwk(RSA))), token(RSA, "RS256"))


def test_a_file_that_is_gone_is_told_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    verifier = with_file(tmp_path / "jwks", key_set(as_jwk(RSA)))
    (tmp_path / "jwks").unlink()
    caplog.clear()
    for _ in range(100):
        assert is_accepted(verifier, token(RSA, "RS256"))
    assert [record.getMessage() for record in caplog.records] == ["keys not re-read, the old ones stay"]


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1e400, "", "x", "AA", "\x00", "sig", "EC", "P-256", "verify", [], [[]], {}, "é" * 99]
)


@given(st.sampled_from([as_jwk(RSA), as_jwk(P256), as_jwk(ED)]), st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "kid", "key_ops", "d", "k"]), ODD, max_size=3
))  # fmt: skip
def test_whatever_a_key_says_it_is_used_or_named(jwk: dict[str, Any], changes: dict[str, Any]) -> None:
    said = ""
    try:
        assert read_jwk({**jwk, **changes}).names
    except KeysError as error:
        said = str(error)
    assert len(said) < 120


def test_a_set_without_a_usable_key_says_which_and_why(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"^has no key that can be used: shared \(a secret\), e \(use enc\)$"):
        with_file(tmp_path / "jwks", key_set(OCT, as_jwk(RSA, kid="e", use="enc")))
    with pytest.raises(KeysError, match="neither a public key in PEM"):
        with_file(tmp_path / "pem", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
