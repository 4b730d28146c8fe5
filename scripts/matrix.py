"""Writes one run of ./dev matrix into tests/bench/results/matrix.json: replaces its row, keeps the others."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

RESULTS = Path(__file__).resolve().parent.parent / "tests" / "bench" / "results" / "matrix.json"


def main(report: str, version: str, server: str, cron: str, jobs: str, installer: str, seconds: str) -> None:
    """Add the row of a pytest report. server, cron: versions of Debian's packages."""
    cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314  our own pytest wrote it
    failed = sorted({str(case.get("name")) for case in cases if {part.tag for part in case} & {"failure", "error"}})
    skipped = sum(1 for case in cases if case.find("skipped") is not None)
    numbers = [re.match(r"[\d.]*\d", text) for text in (server, cron)]
    row = {
        "version": int(version),
        "server": numbers[0][0] if numbers[0] else server,
        "cron": numbers[1][0] if numbers[1] else cron,
        "jobs": jobs,
        "installer": installer,
        "passed": len(cases) - len(failed) - skipped,
        "failed": failed,
        "skipped": skipped,
        "seconds": int(seconds),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    key = ("version", "jobs", "installer")
    rows = [each for each in rows if [each[name] for name in key] != [row[name] for name in key]]
    rows.append(row)
    rows.sort(key=lambda each: (each["version"], each["installer"] != "superuser", each["jobs"]))
    RESULTS.write_text(json.dumps({"title": "matrix", "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
