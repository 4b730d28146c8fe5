"""The contents of the operations page, from the answer of relay_status(); ops.html lays them out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from relay.admin.charts import chart

if TYPE_CHECKING:
    from collections.abc import Sequence

PROMISED_MS = 20.0  # p99 of lateness
NONE = "-"
HOUR = (
    "events",
    "latenessP50Ms",
    "latenessP99Ms",
    "setLate",
    "setLateP50Ms",
    "setLateP99Ms",
    "written",
    "acknowledged",
    "ackP50Ms",
)
LISTS = ("purges", "jobs", "relays", "lateness", "upcoming")  # parts of the answer; null where the database can't see

Fact = tuple[str, object]  # a name and its value


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row is its heading. wide: the column whose text may wrap."""

    key: str
    names: Sequence[str]
    rows: Sequence[Sequence[object]]
    wide: str | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of the page, below its heading. checks: rows of after_hours.health."""

    title: str
    checks: Sequence[dict[str, Any]] = ()
    facts: Sequence[Fact] = ()
    charts: Sequence[Markup] = ()
    table: Table | None = None


def is_good(relay: dict[str, Any], database: dict[str, Any] | None) -> bool:
    """True if nothing on the page needs attention."""
    return relay["state"] == "live" and database is not None and all(check["ok"] for check in database["health"])


def verdict(relay: dict[str, Any], database: dict[str, Any] | None, error: str | None) -> str:
    """The page in one sentence. error: why there is no answer of the database."""
    if database is None:
        reason = error or relay["reason"]
        return f"The database did not answer this page: {reason}. To find out why: python -m relay check"
    bad = sum(not check["ok"] for check in database["health"])
    count = len(database["health"])
    text = f"{bad} of {count} checks not good" if bad else f"All {count} checks are good"
    if relay["state"] != "live":
        text += f"; this relay is {relay['state']}: {relay['reason']}"
    return text


def about(relay: dict[str, Any], database: dict[str, Any] | None) -> str:
    """Which relay and which database the page is about."""
    text = f"relay {relay['node']}: {relay['state']}, {relay['reason']}; "
    text += f"{relay['sockets']} sockets of {relay['users']} users"
    if database is not None:
        text += f"; database time {database['serverTime']}, PostgreSQL {database['serverVersion']}"
    return text


def panels(status: dict[str, Any]) -> list[Panel]:
    """Everything below the verdict."""
    status = {**status, **{part: status[part] or [] for part in LISTS}}
    return [
        Panel("Health", checks=sorted(status["health"], key=lambda check: check["ok"])),
        announcing(status),
        purging(status),
        Panel("Jobs", table=jobs(status["jobs"])),
        Panel("Relays", table=relays(status["relays"])),
    ]


def announcing(status: dict[str, Any]) -> Panel:
    """The last hour, the lateness of a day, what falls due next."""
    now = datetime.fromisoformat(status["serverTime"])
    hour = status["lastHour"] or dict.fromkeys(HOUR)
    facts = (
        ("events in the last hour", shown(hour["events"])),
        ("known ahead: late by, p50 / p99", f"{ms(hour['latenessP50Ms'])} / {ms(hour['latenessP99Ms'])}"),
        ("set late or locked", shown(hour["setLate"])),
        ("these late by, p50 / p99", f"{ms(hour['setLateP50Ms'])} / {ms(hour['setLateP99Ms'])}"),
        ("written to a client", shown(hour["written"])),
        ("acknowledged", shown(hour["acknowledged"])),
        ("acknowledged after, p50", ms(hour["ackP50Ms"])),
        ("warned now, unacknowledged", shown(status["unreachedWarnings"])),
        ("last heartbeat", ago(status["heartbeatAgeSeconds"])),
    )
    return Panel(
        "Announcing", facts=facts, charts=(lateness(status["lateness"], now), upcoming(status["upcoming"], now))
    )


def lateness(hours: Sequence[dict[str, Any]], now: datetime) -> Markup:
    """Lateness per hour, on a scale of powers of ten."""
    known = {row["hour"]: (float(row["p50Ms"]), float(row["p99Ms"])) for row in hours}
    first = now.replace(minute=0, second=0, microsecond=0)
    steps = [first - timedelta(hours=back) for back in range(23, -1, -1)]
    rows = [(f"{step:%H:00}", known.get(stamp(step), (0.0, 0.0))) for step in steps]
    html = chart(
        "lateness", "Known ahead: late by, per hour (UTC)", ("p50", "p99"), rows,
        unit="ms", log_from=1.0, mark=(PROMISED_MS, "20 ms, if known a second ahead"),
    )  # fmt: skip
    return Markup(html)  # noqa: S704 - chart() escapes


def upcoming(minutes: Sequence[dict[str, Any]], now: datetime) -> Markup:
    """What falls due in the next half hour, per minute."""
    known = {row["minute"]: (row["warnings"], row["ends"]) for row in minutes}
    steps = [now.replace(second=0, microsecond=0) + timedelta(minutes=ahead) for ahead in range(30)]
    rows = [(f"{step:%H:%M}", known.get(stamp(step), (0, 0))) for step in steps]
    title = "Due in the next 30 minutes (UTC)"
    if sum(sum(values) for _, values in rows) >= 1000:
        title += ", as far as the first 1,000 of each kind go"
    html = chart("upcoming", title, ("warnings", "ends"), rows, unit="sessions", stacked=True)
    return Markup(html)  # noqa: S704 - chart() escapes


def purging(status: dict[str, Any]) -> Panel:
    """Fourteen days of purging, and the backlog."""
    days, backlog = status["purges"], status["backlog"] or []
    unseen = status["backlog"] is None
    last = next((day for day in reversed(days) if day["statuses"]), None)
    facts = (
        ("kept after expiry", shown(status["retention"])),
        ("last day with runs", f"{last['day']}: {last['statuses']}" if last else "none yet"),
        ("matches overdue", NONE if unseen else sum(row["matches"] for row in backlog)),
        ("held or set aside", NONE if unseen else sum(row["held"] + row["setAside"] for row in backlog)),
    )
    waiting = [(row["day"][5:], (row["matches"], row["held"] + row["setAside"])) for row in backlog]
    kinds = ("to go", "held or set aside")
    title = "Overdue by the day they fell due"
    charts = (
        per_day(days, "deleted", "Messages deleted per day", "messages", "messages"),
        per_day(days, "duration", "Time spent purging per day", "seconds", "s"),
        Markup(chart("backlog", title, kinds, waiting, unit="matches", stacked=True)),  # noqa: S704 - chart() escapes
    )
    return Panel("Purging", facts=facts, charts=charts)


def per_day(days: Sequence[dict[str, Any]], key: str, title: str, field: str, unit: str) -> Markup:
    """One field of the purges, per day."""
    rows = [(day["day"][5:], (float(day[field]),)) for day in days]
    return Markup(chart(key, title, (title,), rows, unit=unit))  # noqa: S704 - chart() escapes


def jobs(rows: Sequence[dict[str, Any]]) -> Table:
    """pg_cron's jobs."""
    names = ("job", "schedule", "next run (UTC)", "last start", "took", "ended", "what for")
    cells = [
        (
            row["job"],
            row["schedule"] or "not scheduled",
            short(row["nextRun"]),
            short(row["lastStart"]),
            "running" if row["isRunning"] else NONE if row["lastSeconds"] is None else f"{row['lastSeconds']} s",
            row["lastStatus"] or NONE,
            row["purpose"],
        )
        for row in rows
    ]
    return Table("jobs", names, cells, wide="what for")


def relays(rows: Sequence[dict[str, Any]]) -> Table:
    """Every relay that has reported to this database."""
    names = ("node", "state", "mode", "sockets", "canary", "seen")
    cells = [
        (
            row["node"],
            row["state"],
            row["mode"] or NONE,
            row["sockets"],
            ms(row["canaryMs"]),
            ago(row["seenSecondsAgo"]),
        )
        for row in rows
    ]
    return Table("relays", names, cells)


def stamp(instant: datetime) -> str:
    """An instant as the database writes it."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def short(instant: str | None) -> str:
    """An instant to read."""
    return NONE if instant is None else f"{datetime.fromisoformat(instant):%d %b %H:%M:%S}"


def shown(value: object) -> object:
    """A value, or the sign for one that the database can't see."""
    return NONE if value is None else value


def ms(value: float | None) -> str:
    """Milliseconds to read."""
    return NONE if value is None else f"{value} ms"


def ago(seconds: float | None) -> str:
    """How long ago, to read."""
    return "never" if seconds is None else f"{seconds:.0f} s ago"
