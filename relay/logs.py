"""Log lines as JSON, one per fact, on stderr; whatever looks like a token is blotted out."""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, WrappedLogger

LOG_SECONDS = 60.0  # between two lines with the same message
TOKEN = re.compile(r"ey[\w-]{8,}\.[\w-]*\.[\w-]*")


def without_tokens(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blot out tokens in every text of a line."""
    return {key: TOKEN.sub("[token]", value) if isinstance(value, str) else value for key, value in event.items()}


class RateLimitedLogger:
    """Writes each message once in so many seconds at most: for what clients can cause as often as they like."""

    def __init__(
        self, log: logging.Logger, clock: Callable[[], float] = time.monotonic, seconds: float = LOG_SECONDS
    ) -> None:
        self._log, self._clock, self._seconds = log, clock, seconds
        self._written: dict[str, tuple[float, int]] = {}  # when it was, and how often it has been left out since

    def warning(self, message: str, **extra: Any) -> None:
        """Write the message, a constant text, with what varies as `extra`, and how many lines were left out."""
        self._write(logging.WARNING, message, extra)

    def error(self, message: str, **extra: Any) -> None:
        """The same at level error."""
        self._write(logging.ERROR, message, extra)

    def _write(self, level: int, message: str, extra: dict[str, Any]) -> None:
        now = self._clock()
        written_at, left_out = self._written.get(message, (float("-inf"), 0))
        if now - written_at < self._seconds:
            self._written[message] = (written_at, left_out + 1)
        else:
            self._written[message] = (now, 0)
            self._log.log(level, message, extra={**extra, "left_out": left_out})


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """False for what a connection attempt that we gave up says when it fails as well (asyncpg, before TLS)."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, ConnectionError) and "never retrieved" in record.getMessage())


def configure(level: str) -> None:
    """Set up logging for this process."""
    processors: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                without_tokens,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # uvicorn logs whole request targets at INFO, and a WebSocket's even with access_log=False.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("websockets").setLevel(logging.WARNING)
    logging.getLogger("asyncio").addFilter(is_worth_a_line)
