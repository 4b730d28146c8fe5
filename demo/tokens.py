"""Makes tokens for one development instance; refuses any secret that isn't marked as a development one."""

from __future__ import annotations

import os
import sys
import time
from uuid import UUID

import jwt

DEVELOPMENT_PREFIX = "development-only-"
LIFETIME = 12 * 60 * 60  # seconds


class NotADevelopmentSecret(Exception):
    """The secret at hand may be a real one: whoever holds that makes tokens elsewhere."""


def development_secret() -> str:
    """This instance's secret, from RELAY_JWT_SECRET."""
    secret = os.environ.get("RELAY_JWT_SECRET", "")
    if not secret.startswith(DEVELOPMENT_PREFIX):
        raise NotADevelopmentSecret(
            f"RELAY_JWT_SECRET must begin with {DEVELOPMENT_PREFIX!r}; ./dev up generates such a one. "
            "With a real secret, tokens come from your own login service."
        )
    return secret


def make_token(secret: str, user_id: UUID, *, lifetime: float = LIFETIME) -> str:
    """A token for the relay that names `user_id` and is good for `lifetime` seconds."""
    now = time.time()
    claims = {"sub": str(user_id), "aud": "after-hours", "iat": now, "exp": now + lifetime}
    return jwt.encode(claims, secret, algorithm="HS256")


def main() -> None:
    """Print a token for the user named on the command line."""
    try:
        user_id = UUID(sys.argv[1])
    except (IndexError, ValueError):
        sys.exit("which user? A token names one by a uuid: ./dev token 0a0a0a0a-0000-4000-8000-00000000000a")
    try:
        print(make_token(development_secret(), user_id))
    except NotADevelopmentSecret as refusal:
        sys.exit(str(refusal))


if __name__ == "__main__":
    main()
