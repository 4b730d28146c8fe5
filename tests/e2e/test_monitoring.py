"""Alert rules and dashboard of docker/monitoring: valid, and every metric they name is one that the relay shows."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import httpx

from tests.helpers import REPO, find_tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Instance

MONITORING = REPO / "docker" / "monitoring"
METRIC = re.compile(r"\bafter_hours_\w+")


def promtool(*arguments: str) -> None:
    result = subprocess.run([find_tool("promtool"), *arguments], cwd=MONITORING, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_alert_rules_are_valid_and_fire_when_they_should() -> None:
    promtool("check", "rules", "alerts.yaml")
    promtool("test", "rules", "alerts_test.yaml")


def test_every_metric_of_rules_and_dashboard_exists(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance("up", "--detach")
    url = f"http://127.0.0.1:{instance.ports['RELAY_ADMIN_PORT']}/metrics"
    with instance.connect() as db:  # a gauge of the last purge needs one
        db.execute("call after_hours.purge()")
        checks = {row[0] for row in db.execute("select check_name from after_hours.health").fetchall()}
    answer = httpx.get(url).text
    shown = {line.split("{")[0].split(" ")[0] for line in answer.splitlines() if not line.startswith("#")}
    assert {f'after_hours_health{{check="{check}"}}' for check in checks} <= {
        line.rsplit(" ", 1)[0] for line in answer.splitlines()
    }
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = re.findall(r"expr: (.+)", (MONITORING / "alerts.yaml").read_text())
    named = set(METRIC.findall(" ".join(queries + rules)))
    # counters with labels appear with their first event
    events = {"after_hours_relay_closed_total", "after_hours_relay_refused_total"}
    assert named - events <= shown
    assert all(f"# TYPE {name.removesuffix('_total')}_total" in answer or name in answer for name in events)
