"""Tokens for a development instance. Only secrets that are marked as development secrets are accepted."""

from __future__ import annotations

import os
import sys
import time
from uuid import UUID

import jwt

DEVELOPMENT_PREFIX = "development-only-"
LIFETIME = 12 * 60 * 60  # seconds


class NotADevelopmentSecret(Exception):
    """RELAY_JWT_SECRET is missing, or it may be a real secret."""


def development_secret() -> str:
    """Return the secret of this instance, from RELAY_JWT_SECRET. Raises NotADevelopmentSecret."""
    secret = os.environ.get("RELAY_JWT_SECRET", "")
    if not secret.startswith(DEVELOPMENT_PREFIX):
        raise NotADevelopmentSecret(
            f"RELAY_JWT_SECRET must begin with {DEVELOPMENT_PREFIX!r}; ./dev up generates such a secret. "
            "With a real secret, your login service issues the tokens."
        )
    return secret


def make_token(secret: str, user_id: UUID, *, lifetime: float = LIFETIME) -> str:
    """Return a token for `user_id` that is valid for `lifetime` seconds."""
    now = time.time()
    claims = {"sub": str(user_id), "aud": "after-hours", "iat": now, "exp": now + lifetime}
    return jwt.encode(claims, secret, algorithm="HS256")


def main() -> None:
    """Print a token for the user named on the command line."""
    try:
        user_id = UUID(sys.argv[1])
    except (IndexError, ValueError):
        sys.exit("name a user by its uuid: ./dev token 0a0a0a0a-0000-4000-8000-00000000000a")
    try:
        print(make_token(development_secret(), user_id))
    except NotADevelopmentSecret as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
