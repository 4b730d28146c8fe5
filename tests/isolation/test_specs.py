"""Runs isolationtester over each spec and compares with what is written down; AFTER_HOURS_ACCEPT=1 writes it anew."""

from __future__ import annotations

import glob
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Connection, Instance

HERE = Path(__file__).parent
SPECS = sorted((HERE / "specs").glob("*.spec"))
# what test.state() says of a broken promise
BROKEN = re.compile(
    r"(HELD|SAVED|YOUNG) AND GONE|ORPHANS|HALF GONE|TOMBSTONE, BUT THERE|ERROR:  (deadlock|current transaction)"
)


def isolationtester(dsn: str, spec: str) -> str:
    """What isolationtester prints for a spec."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/lib/pgxs/src/test/isolation/isolationtester"))
    assert found, "isolationtester is not installed: apt-get install postgresql-client-15"
    result = subprocess.run([found[-1], dsn], input=spec, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stdout + result.stderr
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<instant>", result.stdout)


@pytest.fixture(scope="module")
def stoppable(instance: Instance) -> Iterator[str]:
    """A database whose purge stops before each of its steps; as before afterwards."""
    with instance.connect() as connection:
        connection.execute((HERE / "setup.sql").read_text())
        try:
            yield instance.dsn()
        finally:
            connection.execute((HERE / "teardown.sql").read_text())


@pytest.mark.parametrize("spec", SPECS, ids=[spec.stem for spec in SPECS])
def test_p6_interleavings(stoppable: str, db: Connection, spec: Path) -> None:
    """P6: whatever another session does before any step of a batch, nothing saved or held loses a message."""
    # on a busy machine a batch would stop half-way for lack of time, which is right, and not what is compared here
    db.execute("update after_hours.settings set purge_batch_target = '5 seconds'")
    output = isolationtester(stoppable, spec.read_text())
    assert not BROKEN.search(output), output
    expected = HERE / "expected" / f"{spec.stem}.out"
    if os.environ.get("AFTER_HOURS_ACCEPT"):
        expected.write_text(output)
    assert output == expected.read_text()


# a guard, taken out of the purge → the spec that must notice
MUTANTS = {
    "holds are not locked": ("purge_batch", "lock table after_hours.holds in share mode;", "", "user_hold"),
    "no second look": (
        "purge_batch",
        "from after_hours.purgeable_matches as p\n        where p.id = any(v_picked) and p.expires_at < v_cutoff",
        "from public.after_hours_matches as p\n        where p.id = any(v_picked)",
        "user_hold",
    ),
    "candidates are not locked": (
        "purge_batch", "limit $4 for update skip locked", "limit $4", "save_plain",
    ),
    "candidates are locked too weakly": (
        "purge_batch", "limit $4 for update skip locked",
        "limit $4 for no key update skip locked", "report",
    ),
    "locked candidates are waited for": (
        "purge_batch", "limit $4 for update skip locked",
        "limit $4 for update", "save",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_p6_specs_notice(stoppable: str, db: Connection, mutant: str) -> None:
    """Without the guard the spec fails: the matrix tests what it says it tests."""
    routine, guard, replacement, spec = MUTANTS[mutant]
    row = db.execute(
        "select pg_get_functiondef(oid) from pg_proc where proname = %s and pronamespace = 'after_hours'::regnamespace",
        (routine,),
    ).fetchone()
    assert row is not None
    definition = str(row[0])
    assert definition.count(guard) == 1, f"{guard!r} is not (once) in {routine}"
    db.execute(definition.replace(guard, replacement).encode())
    try:
        output = isolationtester(stoppable, (HERE / "specs" / f"{spec}.spec").read_text())
    finally:
        db.execute(definition.encode())
    assert output != (HERE / "expected" / f"{spec}.out").read_text()
