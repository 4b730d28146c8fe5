"""Writes what is generated: error codes, close codes, measured figures, the relay's settings, the psql menu.

python scripts/render.py rewrites them; --check only says whether they are current (exit code 1 if not).
"""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from relay.protocol import CloseCode
from relay.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo

REPO = Path(__file__).resolve().parent.parent
RESULTS = REPO / "tests" / "bench" / "results"
MODES = {"workers": "background workers", "libpq": "libpq connections"}
RAISE = re.compile(r"raise exception using(.*?);\n", re.S)


def error_codes() -> str:
    """A table row per SQLSTATE raised in sql/: code, message, where, what to do. Placeholders stand as …"""
    found: dict[str, tuple[str, set[str], str]] = {}
    # by name, so that moving a file to another folder changes no page
    for path in sorted((REPO / "sql").rglob("*.sql"), key=lambda path: path.name):
        for statement in RAISE.findall(path.read_text(encoding="utf-8")):
            code = re.search(r"errcode = '(AH\w{3})'", statement)
            if code is None:
                continue
            message, places, hint = found.get(code[1], ("", set(), ""))
            places.add(f"`{path.stem.removeprefix('_')}`")
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


def matrix() -> str:
    """A row per combination that ./dev matrix has run; below it the tests that failed."""
    found = results("matrix")
    if found is None:
        return "*Not run yet: `./dev matrix`.*"
    lines = [
        "| PostgreSQL | pg_cron | jobs run by | installed as | passed | failed | skipped | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['server']} | {row['cron']} | {MODES[row['jobs']]} | {row['installer']} | {row['passed']} "
        f"| {len(row['failed'])} | {row['skipped']} | {row['seconds']} |"
        for row in found["rows"]
    ]
    for row in found["rows"]:
        if row["failed"]:
            names = ", ".join(f"`{name}`" for name in row["failed"])
            lines += ["", f"Failed on {row['version']}, {MODES[row['jobs']]}, {row['installer']}: {names}"]
    lines += ["", f"<sub>`./dev matrix`, {max(row['date'] for row in found['rows'])}</sub>"]
    return "\n".join(lines)


def cell(tables: list[dict[str, Any]], table: int, row: str, column: int) -> str:
    """One figure of a results file, by the row's label."""
    return str(next(cells for cells in tables[table]["rows"] if cells[0] == row)[column])


def claims() -> str:
    """One line per measured claim, from the results files."""
    found = [results(name) for name in ("announce", "purge", "relay")]
    if None in found:
        return "*Not measured yet: `./dev bench announce`, `purge`, `relay`.*"
    announce, purge, relay = (each["tables"] for each in found if each is not None)
    client, cron, queue = "ours, at a client of the relay", "plain per-minute pg_cron job", "BullMQ on Redis, tuned"
    ours, usual = "`CALL after_hours.purge()`", "two DELETEs"
    push, plain = "**After Hours, push** (Starlette, uvicorn)", "Starlette, `await send_text`"
    late = [f"p50 {cell(announce, 0, row, 1)} ms, p99 {cell(announce, 0, row, 2)} ms" for row in (client, cron, queue)]
    commits = [cell(announce, 1, row, 1) for row in ("no announcing", "ours, 1,000 events/s", "each commit NOTIFYs")]
    size = [cell(relay, 0, row, 1) for row in (push, plain)]
    cpu = [cell(relay, 0, row, 5) for row in (push, plain)]
    lines = [
        f"due → client, 10,000 ends a minute: {late[0]}; a per-minute pg_cron job: {late[1]}; BullMQ, tuned: {late[2]}",
        f"8 writers, commits/s: {commits[0]} without announcing, {commits[1]} beside 1,000 events/s, "
        f"{commits[2]} if each commit NOTIFYs",
        f"a pass with nothing due among 10 million sessions: {cell(announce, 2, '0', 1)}",
        f"5 million messages purged: {cell(purge, 0, ours, 1)} s, longest transaction {cell(purge, 0, ours, 3)}; "
        f"two DELETEs: {cell(purge, 0, usual, 1)} s, {cell(purge, 0, usual, 3)}",
        f"an insert of the application meanwhile, p99: {cell(purge, 0, ours, 7)} ms; during two DELETEs: "
        f"{cell(purge, 0, usual, 7)} ms; alone: {cell(purge, 0, 'the application alone', 7)} ms",
        f"an idle client: {size[0]} kB, a frame: {cpu[0]} µs of CPU; Starlette with `send_text`: {size[1]} kB, "
        f"{cpu[1]} µs",
    ]
    return "\n".join(f"- {line}" for line in lines)


def close_codes() -> str:
    """A table row per close code of the protocol."""
    rows = [f"| {code.value} | {code.meaning} | {code.action.value} |" for code in CloseCode]
    return "\n".join(["| code | means | do |", "|---|---|---|", *rows])


TYPES = {"str": "text", "SecretStr": "text, secret", "bool": "true or false", "int": "whole number", "float": "number"}


def type_of(field: FieldInfo) -> str:
    """The type of a setting, in words."""
    kind: Any = field.annotation
    if isinstance(kind, types.UnionType):
        (kind,) = (each for each in get_args(kind) if each is not types.NoneType)
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is frozenset:
        return "list, separated by commas"
    name = getattr(kind, "__name__", str(kind))
    return TYPES.get(name, name.lower())


def default_of(field: FieldInfo) -> str:
    """The default of a setting as one would write it."""
    if field.is_required():
        return "required"
    default = field.default
    if field.default_factory is not None or default is None or default == frozenset():
        return ""
    if isinstance(default, frozenset):
        default = ",".join(sorted(str(each) for each in default))
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def settings() -> str:
    """A table row per setting of the relay."""
    rows = ["| variable | type | default | what it sets |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        assert field.description, f"the setting {name} has no description"
        variable = f"{Settings.model_config['env_prefix']}{name}".upper()
        rows.append(f"| `{variable}` | {type_of(field)} | {default_of(field)} | {field.description} |")
    return "\n".join(rows)


ORDER = (
    "status", "preview", "purge", "explain", "hold", "release", "pause", "resume",
    "delivery", "lateness", "locks", "evidence", "doctor", "help",
)  # fmt: skip


def menu() -> str:
    """sql/psql/menu.psql from the first lines of the scripts beside it: what each does | what it reads and locks."""
    folder = REPO / "sql" / "psql"
    assert {path.stem for path in folder.glob("*.sql")} == set(ORDER), "a script without a place in the menu"
    lines = ["-- The console: psql -f sql/psql/menu.psql. Generated by scripts/render.py from the files' first lines."]
    lines += ["\\set QUIET 1", "\\pset pager off", "\\pset format wrapped", "\\pset expanded auto"]
    # Once, and again on Enter: on a small screen it would push each answer out of sight.
    lines += ["\\if :{?is_menu_shown}", "    \\echo", "\\else", "\\echo '\\n\\033[1mAfter Hours\\033[0m'"]
    for number, name in enumerate(ORDER, 1):
        first = (folder / f"{name}.sql").read_text(encoding="utf-8").splitlines()[0]
        does, locks = first.removeprefix("-- ").replace("'", "''").split(" | ")
        lines += [f"\\echo '{number:>3}  {does}'", f"\\echo '     \\033[2m{locks}\\033[0m'"]
    lines += ["\\echo '  q  leave the menu'", "\\set is_menu_shown 1", "\\endif"]
    lines += ["\\set choice q", "\\prompt 'what? (a number; Enter: the menu; q: leave) ' choice"]
    known = "".join(
        f":'choice' operator(pg_catalog.=) '{number}' as is_{name}, " for number, name in enumerate(ORDER, 1)
    )
    others = ":'choice' operator(pg_catalog.=) '' as is_menu, :'choice' operator(pg_catalog.<>) 'q' as is_other"
    lines.append(f"select {known}{others} \\gset")
    for number, name in enumerate(ORDER, 1):
        lines += [f"\\{'if' if number == 1 else 'elif'} :is_{name}", f"    \\ir {name}.sql", "    \\ir menu.psql"]
    lines += [
        "\\elif :is_menu",
        "    \\unset is_menu_shown",
        "    \\ir menu.psql",
        "\\elif :is_other",
        "    \\echo 'There is no such entry.'",
        "    \\ir menu.psql",
        "\\endif",
        "\\unset QUIET",
        "\\unset is_menu_shown",
    ]
    return "\n".join(lines) + "\n"


BLOCKS: dict[str, Callable[[], str]] = {
    "error-codes": error_codes,
    "bench-announce": lambda: measured("announce"),
    "bench-locks": lambda: measured("locks"),
    "bench-purge": lambda: measured("purge"),
    "bench-reconnect": lambda: measured("reconnect"),
    "bench-relay": lambda: measured("relay"),
    "claims": claims,
    "close-codes": close_codes,
    "matrix": matrix,
    "settings": settings,
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
    pages = [REPO / "README.md", REPO / "sql" / "README.md", *sorted((REPO / "docs").glob("*.md"))]
    for path in (*pages, REPO / "sql" / "psql" / "menu.psql"):
        document = path.read_text(encoding="utf-8") if path.exists() else ""
        rendered = menu() if path.suffix == ".psql" else render(document)
        if rendered == document:
            continue
        outdated.append(path.name)
        if "--check" not in sys.argv:
            path.write_text(rendered, encoding="utf-8")
    if outdated and "--check" in sys.argv:
        print(f"out of date: {', '.join(outdated)}; run: python scripts/render.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
