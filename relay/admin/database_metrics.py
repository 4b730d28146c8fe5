"""The database's own figures in /metrics: a gauge per check of health, and those of list_gauges()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator


class DatabaseMetrics(Collector):
    """Shows the latest answer of relay_status(); without one only that there is none."""

    def __init__(self) -> None:
        self.status: dict[str, Any] | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What the registry reads at each scrape."""
        answers = self.status is not None
        yield GaugeMetricFamily("after_hours_database_answers", "1 if relay_status() has answered", value=answers)
        if self.status is None:
            return
        health = GaugeMetricFamily(
            "after_hours_health", "1 for each check of after_hours.health that is good, else 0", labels=["check"]
        )
        for check in self.status["health"]:
            health.add_metric([check["check"]], check["ok"])
        yield health
        for gauge in self.status["gauges"]:
            if gauge["value"] is not None:
                yield GaugeMetricFamily(f"after_hours_{gauge['name']}", gauge["description"], value=gauge["value"])
