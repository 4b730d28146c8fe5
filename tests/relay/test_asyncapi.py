"""docs/asyncapi.yaml: accepted by AsyncAPI's own parser; the frames of the page and of a real relay fit its schemas."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

from tests.helpers import REPO
from tests.relay.conftest import expire, warn
from tests.relay.test_protocol import examples

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from tests.conftest import Connection
    from tests.relay.conftest import Running, StartRelay

DOCUMENT = REPO / "docs" / "asyncapi.yaml"
API: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
MESSAGES = {message["name"]: message["payload"] for message in API["components"]["messages"].values()}
CHECK = """
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
console.log(JSON.stringify({ isRead: document !== undefined, errors: diagnostics.filter((one) => one.severity < 2) }));
"""


def validate(frame: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError unless the frame fits the schema of its type."""
    schema = {**MESSAGES[frame["type"]], "components": API["components"]}
    jsonschema.validate(frame, schema)


def test_asyncapis_own_parser_accepts_it(tmp_path: Path) -> None:
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "@asyncapi/parser@3.6.6"]
    subprocess.run(install, cwd=tmp_path, check=True, capture_output=True, timeout=100)
    (tmp_path / "check.mjs").write_text(CHECK)
    done = subprocess.run(["node", "check.mjs", DOCUMENT], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == {"isRead": True, "errors": []}, done.stderr


@pytest.mark.parametrize("frame", [each for each in examples() if "type" in each], ids=lambda frame: str(frame["type"]))
def test_the_examples_of_the_page_fit(frame: dict[str, Any]) -> None:
    validate(frame)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("hello", {"start": "other"}),
        ("hello", {"sessions": [{"sessionId": "x", "expiresAt": "x", "state": "active"}]}),
        ("after_hours:session_expired", {"reason": "unknown"}),
        ("after_hours:session_expiring", {"minutesRemaining": 0}),
        ("drain", {"retryAfterMs": -1}),
        ("ack", {"cursor": "nonsense"}),
    ],
)
def test_what_is_no_frame_does_not_fit(kind: str, change: dict[str, Any]) -> None:
    (example,) = [each for each in examples() if each.get("type") == kind][:1]
    with pytest.raises(jsonschema.ValidationError):
        validate({**example, **change})


async def test_frames_of_a_real_relay_fit(start_relay: StartRelay, db: Connection, user: UUID) -> None:
    relay: Running = await start_relay()
    warn(db, user)
    async with relay.peer(user) as peer:
        expire(db, user)
        warn(db, user)
        await peer.until(lambda it: len(it.events) >= 2)
        await peer.say(type="sync")
        await peer.until(lambda it: it.of("snapshot"))
        await relay.stop()
        await peer.until(lambda it: it.of("drain") or it.closed)
    assert {"hello", "snapshot", "drain", "after_hours:session_expiring", "after_hours:session_expired"} <= {
        frame["type"] for frame in peer.frames
    }
    for frame in peer.frames:
        validate(frame)
