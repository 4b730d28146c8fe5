"""Metrics in Prometheus' format; /livez and /readyz."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
from prometheus_client import Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from relay.metrics import LATENESS, Lateness, Metrics
from relay.records import Cursor, Event
from tests.relay.conftest import Running, expire

if TYPE_CHECKING:
    from tests.conftest import Connection


def samples(text: str) -> dict[tuple[str, str], float]:
    """All samples by name and label."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_lateness_counts_as_the_librarys_histogram_does() -> None:
    ours, theirs = Lateness("x", "text"), Histogram("x", "text", buckets=LATENESS, registry=None)
    for seconds in (-1, 0, 0.001, 0.0011, 0.02, 0.3, 300, 301, 1e9):
        ours.observe(seconds)
        theirs.observe(seconds)
    wanted = {(one.name, *one.labels.values()): one.value for one in next(iter(theirs.collect())).samples}
    got = {(one.name, *one.labels.values()): one.value for one in next(iter(ours.collect())).samples}
    assert {name: value for name, value in wanted.items() if not name[0].endswith("_created")} == got


async def test_metrics_and_probes_report_connections_events_and_closes(
    relay: Running, db: Connection, user: UUID
) -> None:
    async with relay.peer(user) as peer, relay.peer(user) as second, relay.peer(uuid4(), token="x") as refused:
        assert refused.closed
        expire(db, user)
        await peer.until(lambda it: it.events)
        await second.until(lambda it: it.events)
        async with httpx.AsyncClient() as client:
            answer = await client.get(relay.http("/metrics", admin=True))
            assert (await client.get(relay.http("/livez"))).json() == {"alive": True}
            ready = await client.get(relay.http("/readyz", admin=True))
            assert (ready.status_code, ready.json()) == (
                200, {"ready": True, "state": "live", "mode": "notify", "reason": "following"},
            )  # fmt: skip
    assert answer.headers["content-type"].startswith("text/plain")
    got = samples(answer.text)
    name = "after_hours_relay_"
    assert got[f"{name}state", "live"] == 1
    assert got[f"{name}state", "stale"] == got[f"{name}polling", ""] == 0
    assert got[f"{name}sockets", ""] == 2
    assert got[f"{name}events_total", ""] == 1
    assert got[f"{name}set_late_to_sent_seconds_count", ""] == got[f"{name}emitted_to_sent_seconds_count", ""] == 2
    assert got[f"{name}set_late_to_sent_seconds_bucket", "+Inf"] == 2
    assert got[f"{name}due_to_sent_seconds_count", ""] == 0, "the session had ended before anything knew of it"
    assert got[f"{name}closed_total", "4401"] == 1
    assert 0 < got[f"{name}canary_seconds", ""] < 1
    assert got[f"{name}connects_total", ""] == 1
    assert str(user) not in answer.text


def test_measuring_a_frame_costs_less_than_ten_microseconds() -> None:
    import timeit

    metrics, now = Metrics(), datetime.now(UTC)
    event = Event(1, uuid4(), uuid4(), Cursor("c"), b"", now - timedelta(seconds=1), now, known_ahead=True)
    assert min(timeit.repeat(lambda: metrics.sent(event, now), number=1000, repeat=5)) < 0.01, "more than 10 µs"
    assert b"due_to_sent_seconds_count 5000.0" in generate_latest(metrics.registry)
