"""The relay's Prometheus metrics. Labels never hold a user id."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from relay.records import Event

LATENESS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300)


class Lateness(Collector):
    """A histogram that costs a fifth of prometheus_client.Histogram, as it is updated for each frame."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._counts = [0] * (len(LATENESS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Record one observation, in seconds."""
        self._counts[bisect_left(LATENESS, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What the registry reads at each scrape."""
        bounds = [*(str(float(bound)) for bound in LATENESS), "+Inf"]
        yield HistogramMetricFamily(
            self._name, self._text, list(zip(bounds, accumulate(self._counts), strict=True)), self._sum
        )


class Metrics:
    """All counters of one relay, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        name = "after_hours_relay_"
        self.state = Gauge(f"{name}state", "1 for the state the relay is in", ["state"], registry=registry)
        self.polling = Gauge(f"{name}polling", "1 while the probe's NOTIFY does not come back", registry=registry)
        self.canary = Gauge(f"{name}canary_seconds", "Last round trip of the probe's NOTIFY", registry=registry)
        self.queue = Gauge(f"{name}notification_queue_usage", "pg_notification_queue_usage()", registry=registry)
        self.heartbeat = Gauge(
            f"{name}emitter_heartbeat_age_seconds", "Age of the emitter's heartbeat", registry=registry
        )
        self.connects = Counter(f"{name}connects", "Connections made to PostgreSQL", registry=registry)
        self.reads = Counter(f"{name}reads", "Reads of the event log", registry=registry)
        self.empty = Counter(f"{name}empty_wakeups", "Wake-ups that found nothing", registry=registry)
        self.events = Counter(f"{name}events", "Events read", registry=registry)
        self.since_due = Lateness(f"{name}due_to_sent_seconds", "Due instant to socket, of deadlines known ahead")
        self.since_due_late = Lateness(f"{name}set_late_to_sent_seconds", "The same of deadlines set late, or locked")
        self.since_emitted = Lateness(f"{name}emitted_to_sent_seconds", "Emitted to socket")
        registry.register(self.since_due)
        registry.register(self.since_due_late)
        registry.register(self.since_emitted)
        self.sockets = Gauge(f"{name}sockets", "Clients connected", registry=registry)
        self.buffered = Gauge(f"{name}buffered_bytes", "Bytes waiting for clients that read slowly", registry=registry)
        self.slow = Counter(f"{name}slow_disconnects", "Clients cut for not reading", registry=registry)
        self.silent = Counter(f"{name}silent_disconnects", "Clients cut for not answering a ping", registry=registry)
        self.closed = Counter(f"{name}closed", "Connections closed by the relay", ["code"], registry=registry)
        self.refused = Counter(f"{name}refused", "Clients refused", ["reason"], registry=registry)
        self.receipts_dropped = Counter(f"{name}receipts_dropped", "Receipts not kept", registry=registry)
        self.rescues = Counter(f"{name}rescues", "Passes of announcing made for a stopped scheduler", registry=registry)

    def sent(self, event: Event, now: datetime) -> None:
        """Record how late an event was written to a client; now: when it was."""
        (self.since_due if event.known_ahead else self.since_due_late).observe((now - event.due_at).total_seconds())
        self.since_emitted.observe((now - event.emitted_at).total_seconds())
