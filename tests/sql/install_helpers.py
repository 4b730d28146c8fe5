"""The text of sql/install.sql with every file it names, as an apply sends it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.helpers import REPO

if TYPE_CHECKING:
    from pathlib import Path


def expanded(path: Path) -> str:
    """A file of sql/ with each \\ir replaced by the file that it names."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^\\ir\s+(\S+)\s*$", lambda match: expanded(path.parent / match[1]), text, flags=re.M)


def install_text() -> str:
    return expanded(REPO / "sql" / "install.sql")
