"""P9 with a real standby: the purge naps while it is behind, and only then, and only between its transactions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.conftest import reset
from tests.faults.test_epochs import server
from tests.sql.purge_helpers import make_matches, purge, value

if TYPE_CHECKING:
    from tests.faults.test_epochs import Server

__all__ = ["server"]  # a fixture


def test_the_purge_waits_for_a_standby_that_is_behind(server: Server) -> None:
    with server.connect() as db:
        reset(db)
        db.execute(
            "update after_hours.settings set purge_batch_max = 50, purge_max_nap = '200 ms', brake_floor_matches = 100000"
        )
        with server.standby() as standby:
            standby.start()
            with standby.connect() as second:
                for is_behind in (False, True):
                    make_matches(db, 1000)
                    position = value(db, "select pg_current_wal_lsn()")
                    while value(second, f"select pg_last_wal_replay_lsn() < '{position}'"):
                        time.sleep(0.02)
                    if is_behind:
                        db.execute("update after_hours.settings set purge_max_lag = 50000")
                        second.execute("select pg_wal_replay_pause()")
                    started = time.monotonic()
                    run = purge(db)
                    seconds = time.monotonic() - started
                    assert (run.status, run.matches) == ("succeeded", 1000)
                    assert run.batches >= 20
                    if is_behind:
                        assert value(db, "select after_hours.replication_lag()") > 50000
                        assert seconds > 10 * 0.2, "half of its batches, at least, were followed by a nap"
                    else:
                        assert seconds < 10 * 0.2
