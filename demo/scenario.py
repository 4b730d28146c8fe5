"""Scenario of ./dev demo: sessions and a purge on a new instance, with a check of each promise.

Uses real pg_cron, NOTIFY and WebSocket. The exit code is 1 if a promise was broken.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from demo.console import Console
from demo.database import MESSAGES, Database
from demo.event import END, LEAD, WARNING
from demo.participant import Participant
from demo.tokens import development_secret


def seconds(number: float) -> timedelta:
    """Return a duration of `number` seconds."""
    return timedelta(seconds=number)


async def sleep_until(instant: datetime) -> None:
    """Sleep until an instant; return at once if it has passed."""
    await asyncio.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()))


async def play_sessions(console: Console, database: Database) -> None:
    """Play four users whose warnings and ends fall into half a minute."""
    console.heading("Four users chat; the client of each is connected to the relay")
    participants = [Participant(console, name) for name in ("Ana", "Ben", "Cleo", "Dora")]
    ana, ben, cleo, dora = participants
    for participant in participants:
        await participant.connect()

    now = datetime.now(UTC)
    anas = await database.insert_session(ana.user_id, started=now - seconds(3475), ends=now + LEAD + seconds(5))
    console.say("Ana", "has had a session for almost an hour; 2 min 5 s are left, so the warning is due in 5 s")
    ben.started = dora.started = datetime.now(UTC)
    bens = await database.start_session(ben.user_id, seconds(12))
    console.say("Ben", "starts a session of 12 s; it is shorter than two minutes, so the warning is due immediately")
    doras = await database.start_session(dora.user_id, seconds(17))
    console.say("Dora", "starts a session of 17 s")
    cleos = await database.start_session(cleo.user_id, seconds(3600))
    console.say("Cleo", "starts a session of an hour")

    console.check_event("Ana was warned two minutes before her end", await ana.expect(WARNING, anas.deadline))
    moved = await database.extend_session(anas, seconds(15))
    console.say("Ana", "gets 15 s more; updating the row is enough, as what is due is computed from it")

    await sleep_until(dora.started + seconds(9))
    await dora.disconnect()
    console.say("Dora", "loses the connection")

    console.check_event("Ben was told that his session had ended", await ben.expect(END, bens.deadline))
    cleos = await database.end_session(cleos)
    console.say("Cleo", "leaves; the application sets ended_at")
    console.check_event(
        "Cleo's early end was announced by the next pass, within a second",
        await cleo.expect(END, cleos.deadline),
        within=1250,
    )

    await sleep_until(doras.deadline + seconds(1))
    missed = dora.count(END) == 0
    console.say("Dora", "reconnects with the cursor of the last handled frame")
    await dora.connect()
    replayed = await dora.expect(END, doras.deadline) is not None and dora.start == "replayed"
    console.check("Dora received exactly the missed event", missed and replayed)

    console.check_event("Ana was warned again for her new end", await ana.expect(WARNING, moved.deadline))
    sessions = (anas, bens, cleos, doras)
    own = [
        {event.session_id for event in participant.events} == {session.id}
        for participant, session in zip(participants, sessions, strict=True)
    ]
    console.check("no user received an event of another user", all(own))
    reasons = [event.reason for participant in participants for event in participant.events if event.type == END]
    console.check("each end had its reason", reasons == ["timeout", "ended", "timeout"])
    counts = [(participant.count(WARNING), participant.count(END)) for participant in participants]
    console.check("no event arrived twice", counts == [(2, 0), (1, 1), (0, 1), (1, 1)])
    lateness = [event.late for participant in participants for event in participant.events]
    console.check("no event arrived early", min(lateness) >= 0)
    for participant in participants:
        await participant.disconnect()


async def play_purge(console: Console, database: Database) -> None:
    """Purge matches that expired a month ago; the saved, the held and the recent match stay."""
    console.heading("A month later: which matches are deleted, and which are not")
    month = timedelta(days=31)
    expired = [await database.insert_match(expired=month) for _ in range(5)]
    saved, held = await database.insert_match(expired=month), await database.insert_match(expired=month)
    recent = await database.insert_match(expired=timedelta(days=29))
    console.say("", f"eight matches of {MESSAGES} messages: seven expired 31 days ago, one 29 days ago")
    await database.save_match(saved)
    console.say("", "one of the seven has been saved by its users")
    await database.query("select after_hours.place_hold(%s, 'report', 'reported by a user', null)", held)
    console.say("", "another one is held because of a report")

    async def show(statement: LiteralString) -> None:
        console.statement(statement, await database.query(statement))

    await show("select section, item, matches, messages from after_hours.purge_preview();")
    await show("call after_hours.purge();")
    kept = {"saved": saved, "held": held, "recent": recent}
    for name, match in kept.items():
        result = await database.query("select * from after_hours.explain_match(%s)", match)
        console.statement(f"select * from after_hours.explain_match('{match}'); -- the {name} match", result)  # noqa: S608
    await show("select match_id, reason, detail from after_hours.not_purged;")
    await show("select run_id, trigger, status, cutoff, matches, messages, duration from after_hours.purge_history;")

    left = await database.message_counts()
    console.check("the five other matches are deleted", not set(expired) & set(left))
    for name, match in kept.items():
        console.check(f"the {name} match still has all of its messages", left.get(match) == MESSAGES)
    orphans = await database.column(
        "select id from public.after_hours_messages where match_id not in (select id from public.after_hours_matches)"
    )
    console.check("no message is left without a match", not orphans)
    tombstones = await database.column("select match_id from after_hours.purged_matches")
    console.check("each deletion has a tombstone", set(tombstones) == set(expired))


async def main() -> int:
    """Play the scenario. Settings: RELAY_JWT_SECRET, RELAY_PORT, DEMO_DSN, AFTER_HOURS_DSN (superuser)."""
    console = Console(relay=f"ws://127.0.0.1:{os.environ['RELAY_PORT']}/ws", secret=development_secret())
    try:
        async with Database(app=os.environ["DEMO_DSN"], superuser=os.environ["AFTER_HOURS_DSN"]) as database:
            await play_sessions(console, database)
            await play_purge(console, database)
    except Exception as error:
        # the summary is printed in any case and names the error
        console.check(f"the scenario was played to its end: {type(error).__name__}: {error}", False)
    return console.summary()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except KeyboardInterrupt:
        sys.exit(130)
