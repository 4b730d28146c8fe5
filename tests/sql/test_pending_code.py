"""P6, P8: nothing that a caller has pending in its transaction runs with the rights of the purge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.sql.purge_helpers import make_match, value

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connection

OPEN = "select id from after_hours.open_purge_run('manual', null, null)"
BATCH = "select after_hours.purge_batch((select max(id) from after_hours.purge_runs))"
BAIT = """
    create temp table bait (i int);
    create function pg_temp.evil() returns trigger language plpgsql as $$
    begin
        delete from public.after_hours_messages;
        return null;
    end
    $$;
    create constraint trigger t after insert on bait deferrable initially deferred for each row execute function pg_temp.evil()
"""


@pytest.fixture
def dba(db: Connection, login: Callable[..., Any]) -> Connection:
    """A member of after_hours_dba. An overdue match, one that is held and one that is live."""
    make_match(db)
    held = make_match(db)
    db.execute("select after_hours.place_hold(%s, 'legal', 'a court')", (held,))
    make_match(db, days=-0.1)
    connection: Connection = login("after_hours_dba_login")
    return connection


WRITES = {
    "a deferred trigger": "insert into bait values (1)",
    "a table": "create temp table other (i int)",
    "a savepoint that is rolled back": "savepoint s; insert into bait values (1); rollback to s",
    "a function": "do $$ begin insert into bait values (1); end $$",
    "a run that is opened in the same transaction": OPEN,
    "a cursor": "insert into bait values (1); declare c cursor for select 1",
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_batch_in_a_transaction_that_has_written_is_refused(db: Connection, dba: Connection, write: str) -> None:
    dba.execute(BAIT)
    dba.execute(OPEN)
    dba.execute("begin")
    dba.execute(write.encode())
    with pytest.raises(psycopg.Error, match="has already written") as raised:
        dba.execute(BATCH)
    assert raised.value.sqlstate == "AH020"
    assert "COMMIT" in (raised.value.diag.message_hint or "")
    dba.execute("rollback")
    assert value(db, "select count(*) from public.after_hours_matches") == 3
    assert value(db, "select count(*) from public.after_hours_messages") == 9


def test_a_batch_of_its_own_transaction_and_a_purge_go_on(db: Connection, dba: Connection) -> None:
    dba.execute(BAIT)
    dba.execute("begin")
    dba.execute("insert into bait values (1)")
    dba.execute("set constraints all deferred")
    dba.execute("rollback")
    dba.execute("call after_hours.purge()")
    assert value(db, "select count(*) from public.after_hours_matches") == 2
    assert value(db, "select matches from after_hours.purge_history limit 1") == 1


def test_a_trigger_that_calls_a_batch_gains_nothing(db: Connection, dba: Connection) -> None:
    dba.execute(BAIT)
    dba.execute(OPEN)
    dba.execute(
        "create function pg_temp.first() returns trigger language plpgsql as"
        f" $$ begin perform 1 from ({BATCH}) as b; return new; end $$;"
        " create trigger f before insert on bait for each row execute function pg_temp.first()"
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        dba.execute("insert into bait values (1)")  # its deferred trigger runs as the DBA
    assert value(db, "select count(*) from public.after_hours_messages") == 9
