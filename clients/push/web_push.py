"""Hands events on to browsers by Web Push. Settings: WEBHOOK_SECRET, VAPID_KEY, VAPID_SUBJECT, SUBSCRIPTIONS."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pywebpush import WebPushException, webpush
from receiver import make_app

GONE = {404, 410}  # the browser has unsubscribed


def deliver(event: dict[str, Any]) -> bool:
    """True if each subscription of the user has the event, or has gone."""
    path = Path(os.environ["SUBSCRIPTIONS"])
    everyone = json.loads(path.read_text())
    subscriptions = everyone.get(event["userId"], [])
    # The push service keeps it until then, not longer: a warning after the deadline is none.
    left = (datetime.fromisoformat(event["expiresAt"]) - datetime.now(UTC)).total_seconds()
    is_warning = event["type"] == "after_hours:session_expiring"
    ttl = max(int(left), 0) if is_warning else 600
    answers = [send(each, event, ttl) for each in subscriptions]
    if any(answer in GONE for answer in answers):
        everyone[event["userId"]] = [
            each for each, answer in zip(subscriptions, answers, strict=True) if answer not in GONE
        ]
        path.write_text(json.dumps(everyone))
    return all(200 <= answer < 300 or answer in GONE for answer in answers)


def send(subscription: dict[str, Any], event: dict[str, Any], ttl: int) -> int:
    """The push service's status for one browser."""
    try:
        answer = webpush(
            subscription,
            json.dumps({key: event[key] for key in ("type", "id", "sessionId", "expiresAt")}),
            vapid_private_key=os.environ["VAPID_KEY"],
            vapid_claims={"sub": os.environ.get("VAPID_SUBJECT", "mailto:push@example.com")},
            ttl=ttl,
            timeout=5,
        )
        return int(answer.status_code)
    except WebPushException as error:
        return int(error.response.status_code) if error.response is not None else 502


app = make_app(deliver)
