"""The pages are correct: links resolve, commands and SQL objects exist, SQL of the operators' pages runs."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import REPO

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Instance

PAGES = sorted(path for folder in (".", "docs", "sql", "clients/*") for path in REPO.glob(f"{folder}/*.md"))
OBJECT = re.compile(
    r"create(?: or replace)?(?: unlogged)? (?:function|procedure|view|table)(?: if not exists)? after_hours\.(\w+)"
)
MATCH, PURGED, USER = (f"0d0d0d0d-0000-4000-8000-00000000000{digit}" for digit in "123")
page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPO)))


def anchor(heading: str) -> str:
    """The fragment that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@page
def test_relative_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        name, _, fragment = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.M)
            assert fragment in map(anchor, headings), target


@page
def test_named_commands_exist(page: Path) -> None:
    usage = subprocess.run([REPO / "dev", "help"], capture_output=True, text=True, check=True).stdout
    for command in re.findall(r"\./dev ([a-z]+)\b", page.read_text()):
        assert command == "help" or f"./dev {command}" in usage, command
    relay = subprocess.run([sys.executable, "-m", "relay", "--help"], cwd=REPO, capture_output=True, text=True).stdout
    for command in re.findall(r"(?:python -m relay|(?<![/@])\bafter-hours) ([a-z]+)\b", page.read_text()):
        assert command in relay, command


@page
def test_named_sql_objects_exist(page: Path) -> None:
    made = {name for path in (REPO / "sql").rglob("*.sql") for name in OBJECT.findall(path.read_text())}
    named = set(re.findall(r"\bafter_hours\.([a-z]\w+)", page.read_text()))
    assert named - made == set()


def test_sql_of_the_operators_pages_runs(make_instance: Callable[..., Instance], tmp_path: Path) -> None:
    instance = make_instance("cluster")
    with instance.connect() as db:
        db.execute("create role docs_dba login in role after_hours_dba")
        db.execute(
            "insert into public.after_hours_matches (id, user_a, user_b, created_at, expires_at) values "
            "(%(match)s, %(user)s, gen_random_uuid(), now(), now()), "
            "(%(purged)s, gen_random_uuid(), gen_random_uuid(), now() - interval '90 days', now() - interval '60 days')",
            {"match": MATCH, "purged": PURGED, "user": USER},
        )
    old_sends = "create table old_sends (session_id uuid, type text, sent_at timestamptz); grant select on old_sends to docs_dba"
    with instance.connect() as db:
        db.execute(old_sends)
    for name in ("operations", "configuration", "migrating", "push"):
        # the section that an owner of an adopted table needs has a test of its own, tests/sql/test_messages_key.py
        document = re.sub(
            r"^## The key of the messages\n.*?(?=^## )",
            "",
            (REPO / "docs" / f"{name}.md").read_text(),
            flags=re.M | re.S,
        )
        blocks = re.findall(r"^( *)```sql\n(.*?)^ *```", document, re.M | re.S)
        assert blocks
        text = "\n".join(block for _, block in blocks)
        for placeholder, value in (("MATCH_ID", MATCH), ("PURGED_ID", PURGED), ("USER_ID", USER)):
            text = text.replace(placeholder, value)
        script = tmp_path / f"{name}.sql"
        script.write_text(f"set session authorization docs_dba;\n{text}")
        result = instance.dev("psql", "-X", "-v", "ON_ERROR_STOP=1", "-f", str(script), check=False)
        assert result.returncode == 0, result.stderr
