"""Signatures of pushes as https://www.standardwebhooks.com says, with secrets from files."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from standardwebhooks.webhooks import Webhook

if TYPE_CHECKING:
    from pathlib import Path

MINIMUM = 24  # bytes of a secret, by the standard


class SecretError(Exception):
    """A secret cannot be used; str() names its file, never its content."""


def read_secrets(directory: Path, name: str) -> list[Webhook]:
    """The secrets of a file, one per line in base64 after whsec_; two while one is replaced. Raises SecretError."""
    try:
        lines = (directory / name).read_text(encoding="ascii").split()
        secrets = [base64.b64decode(line.removeprefix("whsec_"), validate=True) for line in lines]
    except OSError as error:
        raise SecretError(f"secret {name} cannot be read: {error.strerror}") from None
    except ValueError:
        raise SecretError(f"secret {name} is not base64 after whsec_") from None
    if not secrets or min(map(len, secrets)) < MINIMUM:
        raise SecretError(f"secret {name} is shorter than {MINIMUM} bytes: openssl rand -base64 32 | sed s/^/whsec_/")
    return [Webhook(each) for each in secrets]


def sign(secrets: list[Webhook], uid: str, body: str, now: datetime | None = None) -> dict[str, str]:
    """The three headers of a push, with a signature per secret. The timestamp is that of the attempt."""
    now = now or datetime.now(UTC)
    return {
        "webhook-id": uid,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(each.sign(uid, now, body) for each in secrets),
    }
