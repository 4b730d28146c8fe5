"""docs/protocol.md is correct: each example has the shape of a frame of a real relay, or is accepted by one."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from relay import protocol
from relay.client import Client, Stopped
from tests.relay.conftest import Running, StartRelay, cursors, expire, make_token, warn

if TYPE_CHECKING:
    from uuid import UUID

    from tests.conftest import Connection

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "protocol.md").read_text()
DECODER = json.JSONDecoder()
KINDS = {
    "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "instant": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "cursor": r"[0-9a-f]{8}-\d+",
}


def examples() -> list[dict[str, Any]]:
    """Every JSON object in the page's json blocks."""
    found = []
    for block in re.findall(r"```json\n(.*?)```", PAGE, re.S):
        while block := block.strip():
            value, end = DECODER.raw_decode(block)
            found.append(value)
            block = block[end:]
    return found


SENT = [example for example in examples() if example.get("type") in ("auth", "sync", "ack")]
RECEIVED = {example["type"]: example for example in examples() if example.get("type") and example not in SENT}


def shape(value: Any) -> Any:
    """The shape of a frame: its names and the kind of each value; of a list its first element."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, str):
        return next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, value)), "text")
    return type(value).__name__


def assert_as_described(frame: dict[str, Any]) -> None:
    described = RECEIVED[frame["type"]]
    assert shape({**frame, "sessions": []}) == shape({**described, "sessions": []})


async def test_every_frame_has_the_documented_shape(start_relay: StartRelay, db: Connection, user: UUID) -> None:
    relay = await start_relay(ping_seconds=1.5, drain_seconds=0.5)
    hub = relay.relay.hub
    async with relay.peer(user, token=make_token(user, exp=time.time() + 55)) as peer:
        session = warn(db, user)
        await peer.until(lambda it: it.of("after_hours:session_expiring"))
        await peer.say(type="sync")
        await peer.until(lambda it: it.of("snapshot"))
        db.execute("select after_hours.end_session(%s, 'left')", (session,))
        db.execute("select after_hours.announce_due()")
        await peer.until(lambda it: it.of("after_hours:session_expired"))
        hub.send_stale(0.0)
        hub.send_live()
        await peer.until(lambda it: it.of("auth_expiring") and it.of("ping") and it.of("live"))
        db.execute("update after_hours.event_floor set id = 1000")  # as if everything had been trimmed
        hub.attach_afresh()
        await peer.until(lambda it: it.of("reset"))
        await relay.stop()
        await peer.until(lambda it: it.of("drain"))
    for frame in peer.frames:
        assert_as_described(frame)
    assert {frame["type"] for frame in peer.frames} == set(RECEIVED)


async def test_a_session_before_its_warning_has_warns_at(relay: Running, db: Connection, user: UUID) -> None:
    warn(db, user)
    async with relay.peer(user) as peer:
        assert shape(peer.frames[0]["sessions"]) == shape(RECEIVED["hello"]["sessions"])


async def test_the_documented_client_frames_are_accepted(relay: Running, db: Connection, user: UUID) -> None:
    for example in SENT:
        async with relay.peer(user, additional_headers={}) as peer:
            await peer.say(**{"type": "auth", "token": make_token(user)})
            await peer.until(lambda it: it.frames)
            await peer.say(**{**example, **({"token": make_token(user)} if "token" in example else {})})
            await peer.say(type="sync")
            await peer.until(lambda it: it.of("snapshot"))
            assert peer.closed is None


async def test_the_first_frame_may_carry_token_and_cursor(relay: Running, db: Connection, user: UUID) -> None:
    expire(db, user, user)
    async with relay.peer(user, additional_headers={}) as peer:
        await peer.say(**{**SENT[0], "token": make_token(user), "after": cursors(db)[0]})
        await peer.until(lambda it: it.events)
        assert [event["cursor"] for event in peer.events] == cursors(db)[1:]


async def test_polling_has_the_documented_answer(relay: Running, db: Connection, user: UUID) -> None:
    expire(db, user, user)
    command = re.search(r"```sh\n(.*?)```", PAGE, re.S)
    described = next(example for example in examples() if "events" in example)
    assert command
    result = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", f"set -e; {command[1].replace('http://127.0.0.1:8787', relay.http(''))}"],
        env={"TOKEN": make_token(user), "CURSOR": cursors(db)[0], "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = json.loads(result.stdout)
    assert shape({**said, "sessions": []}) == shape(described)
    assert len(said["events"]) == 1


def delays(client: Client, code: int, times: int) -> int:
    """After how many of these closes in a row the client reconnects."""
    for number in range(times):
        try:
            assert client._delay(code, protocol.close_reason(10), was_good=False) > 0
        except Stopped:
            return number
    return times


@pytest.mark.parametrize("code", protocol.CloseCode, ids=lambda code: code.name)
def test_the_python_client_follows_each_close_code(code: protocol.CloseCode) -> None:
    expected = {protocol.Action.STOP: 0, protocol.Action.RENEW_TOKEN: 1}
    assert delays(Client("ws://x/ws", lambda: ""), code, 3) == expected.get(code.action, 3)


def test_the_browser_client_treats_the_same_close_codes_specially() -> None:
    special = (protocol.Action.STOP, protocol.Action.RENEW_TOKEN, protocol.Action.WAIT)
    source = (REPO / "clients" / "browser" / "after-hours.js").read_text()
    known = dict(re.findall(r"\b([A-Z_]+) = (4\d\d\d)\b", source))
    assert known == {code.name: str(code.value) for code in protocol.CloseCode if code.action in special}


@pytest.mark.parametrize(
    ("wrong", "code", "details"),
    [
        ({"type": "sync"}, 4400, {}),
        ({"type": "auth", "token": "no"}, 4401, {"reason": "unreadable"}),
        ({"type": "auth", "token": None}, 4401, {"reason": "no_token"}),
        (
            {"type": "auth", "token": make_token(uuid4(), aud=None)},
            4401,
            {"reason": "missingrequiredclaim", "claim": "aud"},
        ),
    ],
)
async def test_a_wrong_first_frame_is_closed_with_the_documented_code(
    relay: Running, wrong: dict[str, Any], code: int, details: dict[str, str]
) -> None:
    async with relay.peer(uuid4(), additional_headers={}) as peer:
        await peer.say(**wrong)
        await peer.until(lambda it: it.closed)
        assert peer.closed == (code, {"retryAfterMs": 0, **details})
