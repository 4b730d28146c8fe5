"""P5 at the token: only a token signed by our key, for our audience, valid now, for one user, is accepted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from relay.auth import LEEWAY, Refused, Verifier
from relay.keys import KeysError
from relay.protocol import MAX_TOKEN, close_reason
from relay.settings import Settings
from tests.helpers import FAR_AHEAD, LONG_AGO

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Instance

SECRET = "k" * 40
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
USER = UUID("0e0e0e0e-0000-4000-8000-00000000000e")  # constant: parametrized ids must not differ between xdist workers


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def claims(**changes: Any) -> dict[str, Any]:
    now = time.time()
    parts = {"sub": str(USER), "aud": "after-hours", "iat": now, "exp": now + 60, **changes}
    return {name: value for name, value in parts.items() if value is not None}


def settings(**more: Any) -> Settings:
    return Settings(**{"dsn": "postgresql://x/x", "jwt_secret": SECRET, **more})


def with_file(path: Path, text: bytes | str, **more: Any) -> Verifier:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Verifier(settings(jwt_secret=None, jwt_key_file=path, **more))


def forge(header: dict[str, Any], body: dict[str, Any], key: bytes) -> str:
    """A token signed by hand, since PyJWT raises when a PEM is given as a secret."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, body)]
    signature = hmac.new(key, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def test_a_valid_token_gives_user_issue_time_and_expiry() -> None:
    identity = Verifier(settings()).verify(jwt.encode(claims(iat=1_700_000_000), SECRET, "HS256"))
    assert identity.user == USER
    assert identity.issued_at.isoformat() == "2023-11-14T22:13:20+00:00"
    assert 55 < identity.expires_at - time.time() <= 60


def test_a_user_id_in_upper_case_is_the_same_user() -> None:
    assert Verifier(settings()).verify(jwt.encode(claims(sub=str(USER).upper()), SECRET, "HS256")).user == USER


TEN = "0a0a0a0a-0000-4000-8000-00000000000a"
SPELLINGS = [
    TEN.replace("-", ""), f"{{{TEN}}}", f"urn:uuid:{TEN}", "-".join(TEN.replace("-", "")),
    f"0x{TEN.replace('-', '')[:30]}", TEN[:-3] + "0_a", f" {TEN}", f"+{TEN[1:]}", f"{TEN}\n", f"\n{TEN[1:]}",
    TEN.translate({ord("0"): "\u0660"}), TEN.translate({ord("0"): "\uff10"}), TEN[:8] + "urn:uuid:" + TEN[8:],
    TEN.replace("0a0a0a0a-", "0a-0a0a0a"),
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_of_a_uuid_are_refused(spelling: str) -> None:
    verifier = Verifier(settings())
    assert str(verifier.verify(jwt.encode(claims(sub=TEN), SECRET, "HS256")).user) == TEN
    with pytest.raises(Refused, match="no_user"):
        verifier.verify(jwt.encode(claims(sub=spelling), SECRET, "HS256"))


def test_other_encodings_of_a_token_are_refused() -> None:
    """Padding, other bytes and unused bits are not base64url (RFC 7515 2, RFC 4648 3.5)."""
    verifier = Verifier(settings())
    token = jwt.encode(claims(), SECRET, "HS256")
    verifier.verify(token)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = alphabet.index(token[-1])  # 32 bytes are 43 characters: the last has two bits to spare
    others = [f"{token}=", f"{token}==", f"{token}\n", f" {token}", token.replace(".", ".\n", 1), f"{token}é"]
    others += [token[:-1] + alphabet[at + spare] for spare in (1, 2, 3)]
    others += [token.replace(".", "=.", 1), token.replace(".", "==.", 1), token[:-9] + "+/" + token[-7:]]
    for other in others:
        with pytest.raises(Refused, match="unreadable"):
            verifier.verify(other)


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [True, False, "1700000000", "1e3", " 5", [], {}, "\u0661"])
def test_an_instant_that_is_not_a_number_is_refused(name: str, value: object) -> None:
    now = int(time.time())
    value = str(now + 50) if name == "exp" and value == "1700000000" else value
    with pytest.raises(Refused):
        Verifier(settings()).verify(forge({"alg": "HS256"}, {**claims(), name: value}, SECRET.encode()))


@pytest.mark.parametrize(
    ("changes", "reason", "claim"),
    [
        ({"exp": 1}, "expired", "exp"),
        ({"exp": "tomorrow"}, "unreadable", None),
        ({"exp": None}, "missingrequiredclaim", "exp"),
        ({"nbf": True}, "unreadable", "nbf"),
        ({"nbf": FAR_AHEAD}, "immaturesignature", "nbf"),
        ({"iat": True}, "invalidissuedat", "iat"),
        ({"iat": "x"}, "invalidissuedat", "iat"),
        ({"iat": FAR_AHEAD}, "immaturesignature", "iat"),
        ({"iat": -1e300}, "overflow", None),
        ({"iat": -1e15}, "value", None),
        ({"aud": "other"}, "invalidaudience", "aud"),
        ({"aud": ["other", 7, "after-hours"]}, "invalidaudience", "aud"),
        ({"aud": None}, "missingrequiredclaim", "aud"),
        ({"iss": "other"}, "invalidissuer", "iss"),
        ({"iss": None}, "missingrequiredclaim", "iss"),
        ({"iat": None}, "missingrequiredclaim", "iat"),
        ({"sub": 7}, "invalidsubject", "sub"),
        ({"jti": 7}, "invalidjti", "jti"),
        ({"sub": "x"}, "no_user", "sub"),
        ({"sub": None}, "no_user", "sub"),
    ],
)
def test_each_wrong_claim_has_its_reason_in_the_metric_and_its_name(
    changes: dict[str, Any], reason: str, claim: str | None
) -> None:
    """Dashboards and alerts use these reasons: they must not change when PyJWT renames its exceptions."""
    body = {name: value for name, value in {**claims(iss="us"), **changes}.items() if value is not None}
    with pytest.raises(Refused) as refused:
        Verifier(settings(jwt_issuer="us")).verify(forge({"alg": "HS256"}, body, SECRET.encode()))
    assert (refused.value.reason, refused.value.claim) == (reason, claim)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"aud": "other"}, "RELAY_JWT_AUDIENCE"),
        ({"aud": None}, "RELAY_JWT_ALLOW_NO_AUDIENCE"),
        ({"iss": "other"}, "RELAY_JWT_ISSUER"),
        ({"sub": "auth0|1234"}, "RELAY_USER_CLAIM_NAMESPACE"),
        ({"iat": FAR_AHEAD}, "clocks"),
    ],
)
def test_the_log_says_once_a_minute_what_to_set(
    changes: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """CASES 3: tokens of a provider were refused, and the log was silent."""
    verifier = Verifier(settings(jwt_issuer="us"))
    token = jwt.encode(claims(**{"iss": "us", **changes}), SECRET, "HS256")
    for _ in range(3):
        with pytest.raises(Refused):
            verifier.identify(token)
    (line,) = caplog.records
    assert says in line.getMessage()
    assert line.__dict__["claim"] == next(iter(changes))


def test_one_of_several_audiences_is_enough() -> None:
    verifier = Verifier(settings(jwt_audience="chat, account,"))
    for audience in ("chat", "account", ["x", "account"], ["chat", "account"]):
        assert verifier.verify(jwt.encode(claims(aud=audience), SECRET, "HS256")).user == USER
    for other in ("after-hours", ["x"], [], "", {"chat": 1}, [["chat"]], "chat, account", 7):
        with pytest.raises(Refused, match="invalidaudience"):
            verifier.verify(forge({"alg": "HS256"}, claims(aud=other), SECRET.encode()))


def test_no_audience_is_accepted_by_a_switch_and_with_an_issuer_only() -> None:
    """Cognito, Clerk: no aud. The issuer is then all that says who the token is for."""
    with pytest.raises(ValueError, match="RELAY_JWT_ALLOW_NO_AUDIENCE: set RELAY_JWT_ISSUER"):
        settings(jwt_allow_no_audience=True)
    verifier = Verifier(settings(jwt_allow_no_audience=True, jwt_issuer="us"))
    assert verifier.verify(jwt.encode(claims(aud=None, iss="us"), SECRET, "HS256")).user == USER
    assert verifier.verify(jwt.encode(claims(iss="us"), SECRET, "HS256")).user == USER
    others: list[dict[str, Any]] = [{"aud": "other"}, {"aud": None, "iss": "other"}, {"aud": None, "iss": None}]
    for changes in [*others, {"aud": []}]:
        with pytest.raises(Refused):
            verifier.verify(jwt.encode(claims(**{"iss": "us", **changes}), SECRET, "HS256"))


NAMESPACE = UUID("5e9d6a70-3f6d-4a9c-9c1e-8f4f0b2a7c11")
IDS = [
    "auth0|5f7c8ec7c33c6c004bbafe82",
    "user_2NNEqL2nrIRdJ194ndJqAHwEfxC",
    "x" * 128,
    str(USER),
    "é|日本",
    " a ",
    "42",
]


@pytest.mark.parametrize("claim", IDS)
def test_ids_of_another_form_are_mapped_as_postgresql_does(claim: str, instance: Instance) -> None:
    verifier = Verifier(settings(user_claim_namespace=NAMESPACE))
    user = verifier.verify(jwt.encode(claims(sub=claim), SECRET, "HS256")).user
    with instance.connect() as db, db.transaction(force_rollback=True):
        db.execute('create extension "uuid-ossp"; create extension pgcrypto')
        row = db.execute(
            "select uuid_generate_v5(%(namespace)s, %(claim)s) as ossp, encode(set_byte(set_byte(hash,"
            " 6, get_byte(hash, 6) & 15 | 80), 8, get_byte(hash, 8) & 63 | 128), 'hex')::uuid as crypto"
            " from substr(digest(decode(replace(%(namespace)s::text, '-', ''), 'hex') || convert_to(%(claim)s, 'UTF8'),"
            " 'sha1'), 1, 16) as hash",
            {"namespace": NAMESPACE, "claim": claim},
        ).fetchone()
    assert row
    assert (row.ossp, row.crypto) == (user, user)


@pytest.mark.parametrize("claim", ["", 7, None, [], "\ud800"])
def test_what_no_id_can_be_is_mapped_to_no_user(claim: object) -> None:
    with pytest.raises(Refused, match=r"no_user|invalidsubject"):
        Verifier(settings(user_claim_namespace=NAMESPACE)).verify(
            forge({"alg": "HS256"}, claims(sub=claim), SECRET.encode())
        )


def test_a_close_reason_has_room_for_what_it_says() -> None:
    """RFC 6455, 5.5: 123 bytes."""
    assert close_reason(0, **Refused("no_user", "sub").details) == '{"retryAfterMs":0,"reason":"no_user","claim":"sub"}'
    assert close_reason(5, **Refused("no_user", "https://chat.example.org/claims/" * 3).details) == '{"retryAfterMs":5}'


def test_each_wrong_key_or_header_has_its_reason() -> None:
    for token, reason in (
        (jwt.encode(claims(), "other" * 10, "HS256"), "wrong_key"),
        (jwt.encode(claims(), "k" * 64, "HS512"), "wrong_key"),
        (forge({"alg": "HS256", "crit": ["x"], "x": 1}, claims(), SECRET.encode()), "invalidtoken"),
        ("x", "unreadable"),
        ("e" * (MAX_TOKEN + 1), "too_long"),
    ):
        with pytest.raises(Refused) as refused:
            Verifier(settings()).verify(token)
        assert refused.value.reason == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": LONG_AGO},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": None},
        {"iat": FAR_AHEAD},
        {"iat": 1e300},
        {"nbf": FAR_AHEAD},
        {"aud": None},
        {"aud": "somebody-else"},
        {"aud": ["a", "b"]},
        {"iss": "evil"},
        {"iss": None},
        {"sub": None},
        {"sub": "42"},
        {"sub": ""},
        {"sub": ["x"]},
        {"sub": str(USER) + "0"},
    ],
)
def test_wrong_claims_are_refused(changes: dict[str, Any]) -> None:
    verifier = Verifier(settings(jwt_issuer="us"))
    good = {"iss": "us"}
    verifier.verify(jwt.encode(claims(**good), SECRET, "HS256"))
    body = claims(**{**good, **changes})
    token = forge({"alg": "HS256", "typ": "JWT"}, body, SECRET.encode())
    with pytest.raises(Refused):
        verifier.verify(token)


@pytest.mark.parametrize(("name", "sign"), [("exp", -1), ("iat", 1), ("nbf", 1)])
def test_clocks_may_differ_by_the_leeway_and_no_more(name: str, sign: int) -> None:
    verifier, now = Verifier(settings()), time.time()
    verifier.verify(jwt.encode(claims(**{name: now + sign * (LEEWAY - 4)}), SECRET, "HS256"))
    with pytest.raises(Refused):
        verifier.verify(jwt.encode(claims(**{name: now + sign * (LEEWAY + 600)}), SECRET, "HS256"))


def test_the_configured_claim_names_the_user() -> None:
    verifier = Verifier(settings(user_claim="uid"))
    assert verifier.verify(jwt.encode(claims(uid=str(USER), sub="x"), SECRET, "HS256")).user == USER
    with pytest.raises(Refused):
        verifier.verify(jwt.encode(claims(), SECRET, "HS256"))


@pytest.mark.parametrize("token", [
    "", "x", "a.b.c", "....", "e" * 20_000, "é.é.é", jwt.encode(claims(), "other" * 10, "HS256"),
    jwt.encode(claims(), SECRET + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "HS512"),
    jwt.encode(claims(), "", "none"), jwt.encode(claims(), RSA, "RS256"),
    jwt.encode(claims(pad="x" * 20_000), SECRET, "HS256"),
    jwt.encode(claims(), SECRET, "HS256")[:-3], jwt.encode(claims(), SECRET, "HS256").rsplit(".", 1)[0] + ".",
    forge({"alg": "HS256", "crit": ["x"], "x": 1}, claims(), SECRET.encode()),
    forge({"alg": "hs256"}, claims(), SECRET.encode()), forge({"alg": None}, claims(), SECRET.encode()),
    forge({}, claims(), SECRET.encode()),
], ids=count())  # fmt: skip
def test_wrong_tokens_are_refused_with_a_message_that_does_not_repeat_them(token: str) -> None:
    with pytest.raises(Refused) as refused:
        Verifier(settings()).verify(token)
    assert len(str(refused.value)) < 40


def test_hs256_signed_with_the_public_key_is_refused(tmp_path: Path) -> None:
    """Algorithm confusion: HS256 signed with the text of the public key."""
    pem = public_pem(RSA)
    verifier = with_file(tmp_path / "key", pem)
    assert verifier.verify(jwt.encode(claims(), RSA, "RS256")).user == USER
    for secret in (pem, pem.strip()):
        with pytest.raises(Refused):
            verifier.verify(forge({"alg": "HS256"}, claims(), secret))
    for algorithm in ("none", "RS384", "PS256"):
        token = jwt.encode(claims(), None if algorithm == "none" else RSA, algorithm)  # type: ignore[arg-type]
        with pytest.raises(Refused):
            verifier.verify(token)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        (RSA, "RS256"),
    ],
)
def test_tokens_signed_for_each_kind_of_public_key_are_accepted(tmp_path: Path, key: Any, algorithm: str) -> None:
    verifier = with_file(tmp_path / "key", public_pem(key))
    assert verifier.verify(jwt.encode(claims(), key, algorithm)).user == USER


@pytest.mark.parametrize("text", [
    b"nonsense", b"{}", b"{", b"[]", b'{"keys":7}', b'{"keys":[]}', b'{"keys":[7]}',
    b'{"keys":[{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}]}', public_pem(ed448.Ed448PrivateKey.generate()),
])  # fmt: skip
def test_files_without_a_usable_public_key_are_refused(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(KeysError):
        with_file(tmp_path / "key", text)


def jwks(**keys: Any) -> str:
    each = []
    for kid, key in keys.items():
        algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        each.append({**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"})
    return json.dumps({"keys": each})


def test_keys_rotate_without_a_restart_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    new = ec.generate_private_key(ec.SECP256R1())
    verifier = with_file(path, jwks(old=RSA))
    old_token = jwt.encode(claims(), RSA, "RS256", headers={"kid": "old"})
    new_token = jwt.encode(claims(), new, "ES256", headers={"kid": "new"})
    verifier.verify(old_token)
    with pytest.raises(Refused):
        verifier.verify(new_token)
    path.write_text(jwks(old=RSA, new=new))
    verifier.verify(new_token)
    verifier.verify(old_token)
    path.write_text("{broken")
    verifier.verify(new_token)
    path.write_text(jwks(new=new))
    verifier.verify(new_token)
    with pytest.raises(Refused):
        verifier.verify(old_token)
    with pytest.raises(Refused):
        verifier.verify(jwt.encode(claims(), new, "ES256", headers={"kid": "old"}))


def test_an_expiry_far_ahead_is_cut_to_a_year() -> None:
    identity = Verifier(settings()).verify(jwt.encode(claims(exp=10**12), SECRET, "HS256"))
    assert identity.expires_at < time.time() + 400 * 86400
    assert isinstance(identity.user, UUID)
