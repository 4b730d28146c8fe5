"""${message}"""

from __future__ import annotations

from apply import change_text, execute

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

# True only if the routines of this revision also run on the tables one step back.
routines_run_one_step_back = False

FILE = "NNNN_name.sql"
SHA256 = ""  # sha256sum sql/changes/${"FILE"}: the file is write-once from here on


def upgrade() -> None:
    execute(change_text(FILE, SHA256))


def downgrade() -> None:
    raise NotImplementedError("say how to step back")
