"""The main job through every real part: pg_cron's loop across its minute, NOTIFY, the relay, a WebSocket client."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from relay.client import Client
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Instance

EXPIRING = "after_hours:session_expiring"
EXPIRED = "after_hours:session_expired"


@pytest.mark.minute
async def test_warned_two_minutes_before_and_told_at_the_end(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance("up", "--detach")
    user = str(uuid.uuid4())
    token = instance.dev("token", user).stdout.strip()
    got: list[tuple[datetime, dict[str, Any]]] = []
    url = f"ws://127.0.0.1:{instance.ports['RELAY_PORT']}/ws"

    async def follow(client: Client) -> None:
        async for frame in client.frames():
            got.append((datetime.now(UTC), frame))

    client = Client(url, lambda: token)
    following = asyncio.create_task(follow(client))
    await wait_until(lambda: client.cursor is not None)

    # one is warned soon and runs on; one is warned at once and ends on the other side of pg_cron's next minute
    app = instance.connect("after_hours_app")
    now = datetime.now(UTC)
    beyond = (now + timedelta(minutes=1)).replace(second=2, microsecond=0)
    insert = (
        "insert into public.after_hours_sessions (user_id, started_at, expires_at) values (%s, %s, %s) returning id"
    )
    warned = app.execute(insert, (user, now, now + timedelta(minutes=2, seconds=3))).fetchone()
    ended = app.execute(insert, (user, now, beyond)).fetchone()
    assert warned is not None
    assert ended is not None
    await wait_until(lambda: len(got) == 3, 75)

    by_kind = {(frame["type"], frame["sessionId"]): (at, frame) for at, frame in got}
    at, frame = by_kind[EXPIRING, str(warned.id)]
    assert frame["minutesRemaining"] == 2
    late = at - (now + timedelta(seconds=3))
    assert timedelta(0) <= late < timedelta(seconds=1)
    at, frame = by_kind[EXPIRED, str(ended.id)]
    assert frame["reason"] == "timeout"
    assert timedelta(0) <= at - beyond < timedelta(seconds=1), "the loops hand over at the minute"

    # away while it happens: the cursor brings exactly what was missed
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    missed = app.execute("select (after_hours.end_session(%s, 'moderation')).id", (warned.id,)).fetchone()
    assert missed is not None
    with instance.connect() as db:
        await wait_until(lambda: bool(db.execute("select from after_hours.events offset 3").fetchall()))
    got.clear()
    following = asyncio.create_task(follow(Client(url, lambda: token, client.cursor)))
    await wait_until(lambda: len(got) == 1)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert (got[0][1]["type"], got[0][1]["sessionId"], got[0][1]["reason"]) == (EXPIRED, str(warned.id), "moderation")
    app.close()

    with instance.connect("after_hours_jobs", autocommit=True) as jobs:
        jobs.execute("set role after_hours_jobs")
        runs = jobs.execute("select job, count(*) from after_hours.list_job_runs() group by 1").fetchall()
    assert {"announce", "announce_spare", "announce_boot"} <= {run.job for run in runs}, "pg_cron ran them"
