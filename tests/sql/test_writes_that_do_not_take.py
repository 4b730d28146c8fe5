"""What others hang on the sessions table has no effect on announcing, which only reads it (P11): no spin, each event once."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.helpers import poll_until
from tests.sql.test_announce import EXPIRED, events, session

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection

TRIGGER = """
    create function public.{name}() returns trigger language plpgsql as $$ begin {body} end $$;
    create trigger {name} before update on public.after_hours_sessions for each row execute function public.{name}();
"""
SESSIONS = "public.after_hours_sessions"
CASES = {
    # the first one alone decides; in alphabetical order
    "a trigger that raises": TRIGGER.format(name="test_a", body="raise exception 'not allowed';"),
    "a trigger that swallows": TRIGGER.format(name="test_a", body="return null;"),
    "a rule, a check, a generated column, lower precision, no rights of the eraser": f"""
        alter table {SESSIONS} alter expires_at type timestamptz(0), alter ended_at type timestamptz(0);
        create rule test_rule as on update to {SESSIONS} do instead nothing;
        alter table {SESSIONS} add column test_column timestamptz generated always as (expires_at) stored;
        alter table {SESSIONS} add constraint test_check check (started_at > now()) not valid;
        revoke all on {SESSIONS} from after_hours_eraser
    """,
}
UNDO = f"""
    drop rule if exists test_rule on {SESSIONS};
    drop function if exists public.test_a() cascade;
    alter table {SESSIONS} drop constraint if exists test_check, drop column if exists test_column;
    alter table {SESSIONS} alter expires_at type timestamptz, alter ended_at type timestamptz
"""
XID = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"


@pytest.mark.parametrize("case", CASES)
def test_each_event_once_and_at_rest_no_transaction_ids(
    db: Connection, connect: Callable[..., Connection], case: str
) -> None:
    jobs = connect("after_hours_jobs")
    loop = threading.Thread(target=lambda: run(jobs))
    try:
        first, later = session(db, "-1 second"), session(db, "5 seconds")
        db.execute(CASES[case].encode())
        loop.start()
        poll_until(lambda: {first, later} <= {event.session_id for event in events(db) if event.type == EXPIRED})
        before, since = xid(db), time.monotonic()
        time.sleep(2.5)
        rate = (xid(db) - before) / (time.monotonic() - since)
        assert rate < 5, f"{rate:.0f} transaction ids per second"
        told = [(event.session_id, event.type) for event in events(db)]
        assert len(told) == len(set(told)), "each once"
        assert db.execute("table after_hours.set_aside").fetchall() == []
    finally:
        jobs.cancel()
        if loop.ident is not None:
            loop.join()
        db.execute(UNDO.encode())


def xid(db: Connection) -> Any:
    row = db.execute(XID).fetchone()
    assert row is not None
    return row[0]


def run(jobs: Connection) -> None:
    with suppress(psycopg.errors.QueryCanceled):
        jobs.execute("call after_hours.announce_loop('59 seconds')")
