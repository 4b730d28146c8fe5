"""The two clients of docs/protocol.md do what the page says: its code is run as it stands there."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.e2e.test_bridge import heard, node
from tests.helpers import REPO

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.conftest import Instance

PAGE = (REPO / "docs" / "protocol.md").read_text()
# What the page leaves to the application: here it says what it is asked to do, and hears of extensions on stdin.
APPLICATION = """
import { createInterface } from "node:readline";
import { WebSocket } from "ws";
const [, , token, id] = process.argv;
const say = (name, fields) => console.log(JSON.stringify({ name, ...fields }));
const me = { id }, extendButton = {};
const fetch = async () => ({ text: async () => token });
const showBanner = (text) => say("banner", { text });
const leaveChat = (sessionId, reason) => say("leave", { sessionId, reason });
const showConnection = (state) => say("connection", { state });
let extended;
const extendSession = async () => extended;
globalThis.WebSocket = WebSocket;
createInterface({ input: process.stdin }).on("line", (line) => {
  extended = JSON.parse(line);
  extendButton.onclick();
});
"""


def example(language: str) -> str:
    """The page's code in a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.S)
    assert found
    return found[1]


def test_the_javascript_client(scratch: Path, running: Instance) -> None:
    url = f"ws://127.0.0.1:{running.ports['RELAY_PORT']}/ws"
    (scratch / "example.mjs").write_text(APPLICATION + example("js").replace("wss://relay.example.org/ws", url))
    user = str(uuid4())
    start = "select id, expires_at from after_hours.start_session(%s, '100 s')"
    with (
        running.connect("after_hours_app") as app,
        node(scratch, "example.mjs", running.dev("token", user).stdout.strip(), user) as client,
    ):
        assert [heard(client, "connection")["state"] for _ in range(2)] == ["connecting", "live"]
        session = app.execute(start, (user,)).fetchone()
        assert session
        assert heard(client, "banner") == {"text": "This chat ends in 2 min"}
        extended = app.execute("select * from after_hours.extend_session(%s, '30 min')", (session.id,)).fetchone()
        assert extended
        assert client.stdin
        client.stdin.write(
            json.dumps({"sessionId": str(session.id), "expiresAt": extended.expires_at.isoformat()}) + "\n"
        )
        client.stdin.flush()
        app.execute("select after_hours.end_session(%s, 'left')", (session.id,))
        assert heard(client, "leave") == {"sessionId": str(session.id), "reason": "ended"}


async def test_the_python_client(running: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user, handled = str(uuid4()), asyncio.Queue[dict[str, Any]]()
    token = running.dev("token", user).stdout.strip()
    application: dict[str, Any] = {"get_token": lambda: token, "handle": handled.put}
    monkeypatch.chdir(tmp_path)
    exec(compile(example("python"), "docs/protocol.md", "exec"), application)  # noqa: S102 - our own page
    url = f"ws://127.0.0.1:{running.ports['RELAY_PORT']}/ws"
    with running.connect("after_hours_app") as app:
        following = asyncio.create_task(application["follow"](url))
        while handled.empty() or not application["place"].exists():  # those before it was connected are no news to it
            app.execute("select after_hours.start_session(%s, '100 s')", (user,))
            await asyncio.sleep(0.5)
        warning = handled.get_nowait()
        assert warning["type"] == "after_hours:session_expiring"
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

        app.execute("select after_hours.end_session(%s, 'left')", (warning["sessionId"],))
        following = asyncio.create_task(application["follow"](url))  # as if the program had been started again
        while (event := await handled.get())["type"] != "after_hours:session_expired":
            pass
        assert event["sessionId"] == warning["sessionId"]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
