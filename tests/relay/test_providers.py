"""docs/identity-providers.md: the settings it gives for each provider take that provider's tokens, and no others."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

import jwt
import pytest
from psycopg.rows import tuple_row

from relay.auth import Refused, Verifier
from relay.keys import Keys, read_keys
from relay.settings import load_settings
from tests.conftest import Instance
from tests.helpers import LONG_AGO, REPO
from tests.relay.test_auth import RSA
from tests.relay.test_keys import OCT, OTHER_RSA, P256, as_jwk, key_set

PAGE = (REPO / "docs" / "identity-providers.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^## ([\w ]+)\n(?:(?!## ).)*?```sh\n(.*?)```", PAGE, re.M | re.S))
NAMESPACE = UUID("5e9d6a70-3f6d-4a9c-9c1e-8f4f0b2a7c11")
SUB = "8a1f6a3e-0e5b-4d7c-9a51-0c6f1d2e3f40"
TENANT = "3f0f5c1e-1111-4222-8333-444455556666"


@dataclass
class Provider:
    """What a provider publishes and signs: its key set, a token's header and claims, and what makes others of them."""

    user: UUID
    claims: dict[str, Any]
    keys: list[dict[str, Any]]
    strangers: list[dict[str, Any]]  # changes that make a token of another application or customer
    key: Any = RSA
    algorithm: str = "RS256"
    header: dict[str, Any] = field(default_factory=lambda: {"kid": "one"})

    def token(self, **changes: Any) -> str:
        now = int(time.time())
        body = {"iat": now, "exp": now + 300, **self.claims, **changes}
        present = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(present, self.key, self.algorithm, headers=self.header)


ONE = as_jwk(RSA, kid="one", use="sig", alg="RS256")
TWO = as_jwk(OTHER_RSA, kid="two", use="sig", alg="RS256")
AUTH0 = "auth0|5f7c8ec7c33c6c004bbafe82"
POOL = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example"
ENTRA = f"https://login.microsoftonline.com/{TENANT}/v2.0"
ROLES = {"realm_access": {"roles": ["offline_access", "uma_authorization"]}}
PROVIDERS = {
    "Auth0": Provider(
        uuid5(NAMESPACE, AUTH0),
        {
            "iss": "https://example.eu.auth0.com/", "sub": AUTH0, "azp": "3xAmpLe", "scope": "openid profile",
            "aud": ["https://chat.example.org/api", "https://example.eu.auth0.com/userinfo"],
        },
        [{**ONE, "x5t": "x", "x5c": ["MIIC"]}, TWO],
        [{"iss": "https://example.eu.auth0.com"}, {"aud": "https://other.example.org/api"}, {"aud": None}],
    ),
    "Cognito": Provider(
        UUID(SUB),
        {
            "iss": POOL, "sub": SUB, "client_id": "7hExample", "token_use": "access", "username": "jane", "jti": "j",
            "event_id": "e", "scope": "aws.cognito.signin.user.admin", "auth_time": 1_700_000_000, "origin_jti": "o",
        },
        [ONE, TWO],
        [{"iss": POOL.replace("Example", "Other")}, {"iss": None}, {"aud": "7hOther", "token_use": "id"}],
    ),
    "Clerk": Provider(
        uuid5(NAMESPACE, "user_2NNEqL2nrIRdJ194ndJqAHwEfxC"),
        {
            "iss": "https://clerk.example.org", "sub": "user_2NNEqL2nrIRdJ194ndJqAHwEfxC", "azp": "https://example.org",
            "sid": "sess_2N", "nbf": LONG_AGO, "v": 2, "fva": [7, -1], "sts": "active", "pla": "u:free",
        },
        [ONE],
        [{"iss": "https://clerk.other.org"}, {"aud": "other"}],
    ),
    "Firebase": Provider(
        uuid5(NAMESPACE, "V7gbAfVpY4ZzUnGXoKTZz0UTXYq1"),
        {
            "iss": "https://securetoken.google.com/example-project", "aud": "example-project",
            "sub": "V7gbAfVpY4ZzUnGXoKTZz0UTXYq1", "user_id": "V7gbAfVpY4ZzUnGXoKTZz0UTXYq1", "auth_time": 1_700_000_000,
            "firebase": {"identities": {"email": ["jane@example.org"]}, "sign_in_provider": "password"},
        },
        [ONE, TWO],
        [{"aud": "other-project", "iss": "https://securetoken.google.com/other-project"}, {"aud": "other-project"}],
    ),
    "Keycloak": Provider(
        UUID(SUB),
        {
            "iss": "https://id.example.org/realms/chat", "aud": "account", "sub": SUB, "typ": "Bearer", "azp": "web",
            "jti": "onrtac:8f", "sid": "s", "acr": "1", "scope": "openid email", **ROLES,
        },
        [as_jwk(OTHER_RSA, kid="two", use="enc", alg="RSA-OAEP"), ONE],
        [{"iss": "https://id.example.org/realms/master"}, {"aud": ["realm-management"]}, {"aud": None}],
    ),
    "Supabase": Provider(
        UUID(SUB),
        {
            "iss": "https://example.supabase.co/auth/v1", "aud": "authenticated", "sub": SUB, "role": "authenticated",
            "aal": "aal1", "amr": [{"method": "password", "timestamp": 1_700_000_000}], "session_id": "s", "is_anonymous": False,
        },
        [as_jwk(P256, kid="one", use="sig", alg="ES256", key_ops=["verify"]), OCT],
        [{"iss": "https://other.supabase.co/auth/v1"}, {"aud": None, "sub": None, "role": "anon"}],
        key=P256, algorithm="ES256",
    ),
    "Entra ID": Provider(
        UUID(SUB),
        {
            "iss": ENTRA, "aud": "9b1d2c3e-aaaa-4bbb-8ccc-ddddeeeeffff", "oid": SUB, "tid": TENANT, "ver": "2.0",
            "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ", "nbf": LONG_AGO, "scp": "chat", "azp": "a",
        },
        [{**as_jwk(RSA, kid="one", use="sig"), "x5t": "one", "x5c": ["MIIC"], "issuer": ENTRA}],
        [{"iss": ENTRA.replace(TENANT, SUB)}, {"aud": "00000003-0000-0000-c000-000000000000"}, {"oid": None}],
        header={"kid": "one", "x5t": "one"},
    ),
}  # fmt: skip


@pytest.fixture
def verifier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Verifier:
    """A verifier with the settings of the page and the keys of the test."""
    monkeypatch.setenv("RELAY_DSN", "postgresql://x/x")
    for line in BLOCKS[request.param].splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    verifier = Verifier(load_settings())
    verifier.keys = Keys(read_keys(key_set(*PROVIDERS[request.param].keys).encode()))
    return verifier


@pytest.mark.parametrize(("verifier", "provider"), PROVIDERS.items(), ids=PROVIDERS, indirect=["verifier"])
def test_the_settings_of_the_page_take_the_providers_tokens(verifier: Verifier, provider: Provider) -> None:
    """CASES 3: no aud, ids that are no uuids, encryption keys and secrets beside the keys."""
    assert verifier.identify(provider.token()).user == provider.user
    for changes in provider.strangers:
        with pytest.raises(Refused):
            verifier.identify(provider.token(**changes))
    with pytest.raises(Refused, match="wrong_key"):
        verifier.identify(jwt.encode(provider.claims, "k" * 40, "HS256", headers={"kid": OCT["kid"]}))


def test_the_page_and_the_tests_name_the_same_providers() -> None:
    assert set(BLOCKS) == set(PROVIDERS)
    assert [name for name in PROVIDERS if f"\n| {name} |" not in PAGE] == []


def test_the_sql_of_the_page_makes_the_uuids_of_the_relay(instance: Instance) -> None:
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE, re.S)
    first, second = re.findall(r"^select .*?;$", block, re.M | re.S)
    with instance.connect() as db, db.transaction(force_rollback=True), db.cursor(row_factory=tuple_row) as cursor:
        cursor.execute('create extension "uuid-ossp"; create extension pgcrypto')
        assert [cursor.execute(text).fetchone() for text in (first, second)] == [(uuid5(NAMESPACE, AUTH0),)] * 2
