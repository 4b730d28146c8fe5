"""A received event, as the participant records it and the console checks it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

WARNING, END = "after_hours:session_expiring", "after_hours:session_expired"
LEAD = timedelta(minutes=2)  # settings.warning_lead of a new instance


@dataclass(frozen=True)
class Event:
    """A received event."""

    type: str
    id: str
    session_id: UUID
    deadline: datetime
    reason: str | None
    late: float  # ms between the due instant and the arrival here; both clocks are of this machine
