"""Runs each pgTAP file with pg_prove, in a transaction that is rolled back: routines, from their callers' seats."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Connection

FILES = sorted(Path(__file__).parent.glob("*.sql"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_file(file: Path, db: Connection) -> None:
    db.execute("create schema if not exists tap; grant usage on schema tap to public")
    db.execute("create extension if not exists pgtap schema tap")
    info = db.info
    where = {"PGHOST": info.host, "PGPORT": str(info.port), "PGUSER": "postgres", "PGDATABASE": "after_hours"}
    result = subprocess.run(
        ["pg_prove", "--verbose", str(file)], env={**os.environ, **where}, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Result: PASS" in result.stdout
