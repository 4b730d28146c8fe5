"""The story of ./dev demo: one night on a fresh instance, and whether what was promised came true.

Real pg_cron, NOTIFY and WebSocket. Ends by itself; the exit code is 1 if anything promised did not happen.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from demo.database import MESSAGES, Database
from demo.stage import Stage
from demo.tokens import development_secret
from demo.viewer import END, LEAD, WARNING, Viewer


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


async def until(instant: datetime) -> None:
    await asyncio.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()))


async def announcing(stage: Stage, database: Database) -> None:
    """Four users whose warnings and ends fall within half a minute."""
    stage.act("Four people are chatting; the client of each listens to the relay")
    viewers = ana, ben, cleo, dora = [Viewer(stage, name) for name in ("Ana", "Ben", "Cleo", "Dora")]
    for viewer in viewers:
        await viewer.connect()

    now = datetime.now(UTC)
    anas = await database.insert_session(ana.user_id, started=now - seconds(3475), ends=now + LEAD + seconds(5))
    stage.say("Ana", "has been here for an hour; 2 min 5 s are left: the warning is due in 5 s")
    ben.started = dora.started = datetime.now(UTC)
    bens = await database.start_session(ben.user_id, seconds(12))
    stage.say("Ben", "starts a session of 12 s, shorter than the two minutes: he is warned at once")
    doras = await database.start_session(dora.user_id, seconds(17))
    stage.say("Dora", "starts one of 17 s")
    cleos = await database.start_session(cleo.user_id, seconds(3600))
    stage.say("Cleo", "starts one of an hour")

    stage.check_told("Ana was warned two minutes before her end", await ana.expect(WARNING, anas.deadline))
    moved = await database.extend_session(anas, seconds(15))
    stage.say("Ana", "gets 15 s more; nothing else is done: due-ness is read from the row")

    await until(dora.started + seconds(9))
    await dora.disconnect()
    stage.say("Dora", "is in a tunnel: her connection is gone")

    stage.check_told("Ben was told that his time was up", await ben.expect(END, bens.deadline))
    cleos = await database.end_session(cleos)
    stage.say("Cleo", "leaves; the application writes ended_at")
    stage.check_told(
        "Cleo's leaving was told at the next look, within a second",
        await cleo.expect(END, cleos.deadline),
        within=1250,
    )

    await until(doras.deadline + seconds(1))
    missed = dora.count(END) == 0
    stage.say("Dora", "is back, and presents the cursor of the last frame she handled")
    await dora.connect()
    replayed = await dora.expect(END, doras.deadline) is not None and dora.start == "replayed"
    stage.check("Dora got exactly what she had missed", missed and replayed)

    stage.check_told("Ana was warned again for her new end", await ana.expect(WARNING, moved.deadline))
    sessions = (anas, bens, cleos, doras)
    own = [
        {event.session_id for event in viewer.events} == {session.id}
        for viewer, session in zip(viewers, sessions, strict=True)
    ]
    stage.check("nobody got an event of somebody else", all(own))
    reasons = [event.reason for viewer in viewers for event in viewer.events if event.type == END]
    stage.check("each end came with its reason", reasons == ["timeout", "ended", "timeout"])
    counts = [(viewer.count(WARNING), viewer.count(END)) for viewer in viewers]
    stage.check("nothing came twice", counts == [(2, 0), (1, 1), (0, 1), (1, 1)])
    stage.check("nothing came early", all(event.late >= 0 for viewer in viewers for event in viewer.events))
    for viewer in viewers:
        await viewer.disconnect()


async def forgetting(stage: Stage, database: Database) -> None:
    """Matches that expired a month ago are purged; the saved, the held and the young one stay."""
    stage.act("A month later: what is forgotten, and what is not")
    month = timedelta(days=31)
    plain = [await database.insert_match(expired=month) for _ in range(5)]
    saved, held = await database.insert_match(expired=month), await database.insert_match(expired=month)
    young = await database.insert_match(expired=timedelta(days=29))
    stage.say("", f"eight matches of {MESSAGES} messages: seven expired 31 days ago, one 29 days ago")
    await database.save_match(saved)
    stage.say("", "one of the seven has been saved by the two …")
    await database.ask("select after_hours.place_hold(%s, 'report', 'reported by one of the two', null)", held)
    stage.say("", "… and one is held: somebody reported it")

    async def type_in(statement: LiteralString) -> None:
        stage.typed(statement, await database.ask(statement))

    await type_in("select section, item, matches, messages from after_hours.purge_preview();")
    await type_in("call after_hours.purge();")
    kept = {"saved": saved, "held": held, "young": young}
    for name, match in kept.items():
        said = await database.ask("select * from after_hours.explain_match(%s)", match)
        stage.typed(f"select * from after_hours.explain_match('{match}'); -- the {name} one", said)  # noqa: S608
    await type_in("select match_id, reason, detail from after_hours.not_purged;")
    await type_in("select run_id, trigger, status, cutoff, matches, messages, duration from after_hours.purge_history;")

    left = await database.message_counts()
    stage.check("the five plain matches are gone", not set(plain) & set(left))
    for name, match in kept.items():
        stage.check(f"the {name} match has all of its messages", left.get(match) == MESSAGES)
    orphans = await database.column(
        "select id from public.after_hours_messages where match_id not in (select id from public.after_hours_matches)"
    )
    stage.check("no message is left without its match", not orphans)
    tombstones = await database.column("select match_id from after_hours.purged_matches")
    stage.check("each deletion left a tombstone", set(tombstones) == set(plain))


async def main() -> int:
    """Play it. Settings: RELAY_JWT_SECRET, RELAY_PORT, DEMO_DSN, AFTER_HOURS_DSN (superuser)."""
    stage = Stage(relay=f"ws://127.0.0.1:{os.environ['RELAY_PORT']}/ws", secret=development_secret())
    try:
        async with Database(app=os.environ["DEMO_DSN"], superuser=os.environ["AFTER_HOURS_DSN"]) as database:
            await announcing(stage, database)
            await forgetting(stage, database)
    except Exception as error:
        # the summary comes in any case, and says what broke the story
        stage.check(f"the story was told to its end: {type(error).__name__}: {error}", False)
    return stage.summary()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except KeyboardInterrupt:
        sys.exit(130)
