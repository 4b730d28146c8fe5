"""Hands events on to phones by an API shaped like FCM's HTTP v1. Settings: WEBHOOK_SECRET, FCM_PROJECT, and two files.

FCM_TOKEN_FILE holds the bearer token, DEVICES the tokens of each user's devices.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
from receiver import make_app

BASE = os.environ.get("FCM_BASE", "https://fcm.googleapis.com")
GONE = 404  # UNREGISTERED: the app was removed


def deliver(event: dict[str, Any]) -> bool:
    """True if each device of the user has the event, or has gone."""
    path = Path(os.environ["DEVICES"])
    everyone = json.loads(path.read_text())
    devices = everyone.get(event["userId"], [])
    url = f"{BASE}/v1/projects/{os.environ['FCM_PROJECT']}/messages:send"
    token = Path(os.environ["FCM_TOKEN_FILE"]).read_text().strip()  # renewed by whoever writes the file
    data = {key: event[key] for key in ("type", "id", "sessionId", "expiresAt")}
    android = {"priority": "HIGH", "collapse_key": event["sessionId"]}
    with httpx.Client(timeout=5, headers={"authorization": f"Bearer {token}"}) as client:
        answers = [
            client.post(url, json={"message": {"token": each, "data": data, "android": android}}).status_code
            for each in devices
        ]
    if GONE in answers:
        everyone[event["userId"]] = [each for each, answer in zip(devices, answers, strict=True) if answer != GONE]
        path.write_text(json.dumps(everyone))
    return all(200 <= answer < 300 or answer == GONE for answer in answers)


app = make_app(deliver)
