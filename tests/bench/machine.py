"""What every benchmark says of the machine it ran on, and where its figures go."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")


def describe() -> str:
    """Processor, cores, memory, system, load: what makes figures comparable, or not."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "?",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    server = subprocess.run(["psql", "--version"], capture_output=True, text=True).stdout.split()[2:3]
    return (
        f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}, "
        f"PostgreSQL {' '.join(server)}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def save(name: str, tables: list[dict[str, Any]], machine: str | None = None) -> None:
    """Write results/NAME.json and print the tables."""
    result = {"date": datetime.now(UTC).date().isoformat(), "machine": machine or describe(), "tables": tables}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for table in tables:
        print(f"\n{table['caption']}")
        for row in [table["columns"], *table["rows"]]:
            print("  " + " | ".join(str(cell) for cell in row))
