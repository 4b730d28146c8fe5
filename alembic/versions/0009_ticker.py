"""Servers without pg_cron: which scheduler runs the jobs, the tickers and their runs."""

from __future__ import annotations

from apply import change_text, execute

revision = "0009"
down_revision = "0008"
routines_run_one_step_back = True

FILE = "0009_ticker.sql"
SHA256 = "59dada022e3ab13aedbd269ccb79f1d3c199407e69e6d302afce8eaf498f9eba"


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    """The column and the tables stay: the routines of the version before do not know them."""
