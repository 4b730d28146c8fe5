"""Writes the generated blocks of README.md and sql/README.md: error codes from sql/, numbers from results files.

python docs/render.py rewrites them; --check only says whether they are current (exit code 1 if not).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

REPO = Path(__file__).resolve().parent.parent
RESULTS = REPO / "tests" / "bench" / "results"
RAISE = re.compile(r"raise exception using(.*?);\n", re.S)


def error_codes() -> str:
    """A table row per SQLSTATE raised in sql/: code, message, where, what to do. Placeholders stand as …"""
    found: dict[str, tuple[str, set[str], str]] = {}
    for path in sorted((REPO / "sql").rglob("*.sql")):
        for statement in RAISE.findall(path.read_text(encoding="utf-8")):
            code = re.search(r"errcode = '(AH\w{3})'", statement)
            if code is None:
                continue
            message, places, hint = found.get(code[1], ("", set(), ""))
            places.add(f"`{path.stem}`")
            found[code[1]] = (message or text(statement, "message"), places, hint or text(statement, "hint"))
    rows = [f"| `{code}` | {m} | {', '.join(sorted(p))} | {h} |" for code, (m, p, h) in sorted(found.items())]
    return "\n".join(["| code | message | raised by | hint |", "|---|---|---|---|", *rows])


def text(statement: str, option: str) -> str:
    """The first string literal of an option of RAISE … USING, for people: placeholders become …"""
    match = re.search(rf"\b{option} =(.*?)(?:,\n\s+\w+ =|\Z)", statement, re.S)
    literal = re.search(r"'((?:[^']|'')*)'", match[1]) if match else None
    if literal is None:
        return ""
    plain = re.sub(r"%[sLI]", "…", literal[1].replace("''", "'"))
    return re.sub(r"\s+", " ", plain).replace("|", "\\|")


def results(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def measured(name: str) -> str:
    """The tables of a results file: {"title", "machine", "date", "tables": [{"caption", "columns", "rows"}]}."""
    found = results(name)
    if found is None:
        return f"*Not measured yet: `./dev bench {name}`.*"
    parts = []
    for table in found["tables"]:
        parts.append(f"**{table['caption']}**\n")
        parts.append("| " + " | ".join(table["columns"]) + " |")
        parts.append("|" + "---|" * len(table["columns"]))
        parts += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in table["rows"]]
        parts.append("")
    parts.append(f"<sub>`./dev bench {name}`, {found['date']}, {found['machine']}</sub>")
    return "\n".join(parts)


BLOCKS: dict[str, Callable[[], str]] = {
    "error-codes": error_codes,
    "bench-announce": lambda: measured("announce"),
    "bench-purge": lambda: measured("purge"),
    "bench-relay": lambda: measured("relay"),
}


def render(document: str) -> str:
    """The document with the text between <!-- NAME --> and <!-- /NAME --> made anew."""
    for name, make in BLOCKS.items():
        before, mark, rest = document.partition(f"<!-- {name} -->\n")
        if mark:
            _, end, after = rest.partition(f"<!-- /{name} -->")
            assert end, f"the block {name} is never closed"
            document = f"{before}{mark}{make()}\n{end}{after}"
    return document


def main() -> int:
    outdated = []
    for path in (REPO / "README.md", REPO / "sql" / "README.md"):
        document = path.read_text(encoding="utf-8")
        rendered = render(document)
        if rendered == document:
            continue
        outdated.append(path.name)
        if "--check" not in sys.argv:
            path.write_text(rendered, encoding="utf-8")
    if outdated and "--check" in sys.argv:
        print(f"out of date: {', '.join(outdated)}; run: python docs/render.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
