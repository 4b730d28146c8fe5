"""The panels of the operations page: checks, charts, tables of what relay_status() says. Writes HTML, asks nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

from relay.admin.charts import chart

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROMISED_MS = 20.0  # p99 of lateness
NONE = "-"


def sections(of: dict[str, Any]) -> Iterable[str]:
    """Everything below the verdict."""
    now = datetime.fromisoformat(of["serverTime"])
    hour = of["lastHour"]
    yield section("Health", checks(of["health"]))
    yield section(
        "Announcing",
        facts(
            ("events in the last hour", hour["events"]),
            ("late, p50 / p99", f"{ms(hour['latenessP50Ms'])} / {ms(hour['latenessP99Ms'])}"),
            ("written to a client", hour["written"]),
            ("acknowledged", hour["acknowledged"]),
            ("acknowledged after, p50", ms(hour["ackP50Ms"])),
            ("warned now, unacknowledged", of["unreachedWarnings"]),
            ("last heartbeat", ago(of["heartbeatAgeSeconds"])),
        )
        + f'<div class="charts">{lateness(of["lateness"], now)}{upcoming(of["upcoming"], now)}</div>',
    )
    yield section("Purging", purges(of))
    yield section("Jobs", jobs(of["jobs"]))
    yield section("Relays", relays(of["relays"]))


def section(title: str, inside: str) -> str:
    """A part with its heading."""
    key = title.lower()
    return f'<section aria-labelledby="{key}"><h2 id="{key}">{title}</h2>{inside}</section>'


def checks(health: Sequence[dict[str, Any]]) -> str:
    """The checks, those that need somebody first, with the command to type."""
    items = []
    for check in sorted(health, key=lambda check: check["ok"]):
        command = f'<pre tabindex="0" aria-label="what to type">{escape(check["next"])}</pre>' if check["next"] else ""
        state = "good" if check["ok"] else "bad"
        name = escape(check["check"].replace("_", " "))
        detail = escape(check["detail"])
        items.append(f'<li class="{state}"><b>{name}</b> <small>{state}</small><p>{detail}</p>{command}</li>')
    return f'<ul class="checks">{"".join(items)}</ul>'


def facts(*pairs: tuple[str, object]) -> str:
    """Names and values."""
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>' for name, value in pairs)}</dl>"


def lateness(hours: Sequence[dict[str, Any]], now: datetime) -> str:
    """Lateness per hour, on a scale of powers of ten."""
    known = {row["hour"]: (float(row["p50Ms"]), float(row["p99Ms"])) for row in hours}
    first = now.replace(minute=0, second=0, microsecond=0)
    steps = [first - timedelta(hours=back) for back in range(23, -1, -1)]
    rows = [(f"{step:%H:00}", known.get(stamp(step), (0.0, 0.0))) for step in steps]
    return chart(
        "lateness", "Late by, per hour (UTC)", ("p50", "p99"), rows,
        unit="ms", log_from=1.0, mark=(PROMISED_MS, "20 ms, if known a second ahead"),
    )  # fmt: skip


def upcoming(minutes: Sequence[dict[str, Any]], now: datetime) -> str:
    """What falls due in the next half hour, per minute."""
    known = {row["minute"]: (row["warnings"], row["ends"]) for row in minutes}
    steps = [now.replace(second=0, microsecond=0) + timedelta(minutes=ahead) for ahead in range(30)]
    rows = [(f"{step:%H:%M}", known.get(stamp(step), (0, 0))) for step in steps]
    title = "Due in the next 30 minutes (UTC)"
    if sum(sum(values) for _, values in rows) >= 1000:
        title += ", as far as the first 1,000 of each kind go"
    return chart("upcoming", title, ("warnings", "ends"), rows, unit="sessions", stacked=True)


def purges(of: dict[str, Any]) -> str:
    """Fourteen days of purging, and what waits for it."""
    days = of["purges"]
    backlog = of["backlog"]
    last = next((day for day in reversed(days) if day["statuses"]), None)

    def per_day(key: str, title: str, field: str, unit: str) -> str:
        return chart(key, title, (title,), [(day["day"][5:], (float(day[field]),)) for day in days], unit=unit)

    waiting = [(row["day"][5:], (row["matches"], row["held"] + row["setAside"])) for row in backlog]
    kinds = ("to go", "held or set aside")
    return (
        facts(
            ("kept after expiry", of["retention"]),
            ("last day with runs", f"{last['day']}: {last['statuses']}" if last else "none yet"),
            ("matches overdue", sum(row["matches"] for row in backlog)),
            ("held or set aside", sum(row["held"] + row["setAside"] for row in backlog)),
        )
        + '<div class="charts">'
        + per_day("deleted", "Messages deleted per day", "messages", "messages")
        + per_day("duration", "Time spent purging per day", "seconds", "s")
        + chart("backlog", "Overdue by the day they fell due", kinds, waiting, unit="matches", stacked=True)
        + "</div>"
    )


def jobs(rows: Sequence[dict[str, Any]]) -> str:
    """pg_cron's jobs."""
    return table(
        "jobs",
        ("job", "schedule", "next run (UTC)", "last start", "took", "ended", "what for"),
        [
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
        ],
    )


def relays(rows: Sequence[dict[str, Any]]) -> str:
    """Every relay that has reported to this database."""
    return table(
        "relays",
        ("node", "state", "mode", "sockets", "canary", "seen"),
        [
            (r["node"], r["state"], r["mode"] or NONE, r["sockets"], ms(r["canaryMs"]), ago(r["seenSecondsAgo"]))
            for r in rows
        ],
    )


def table(key: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table that scrolls sideways on a phone."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(str(row[0]))}</th>'
        + "".join(f'<td{" class=wide" if name == "what for" else ""}>{escape(str(cell))}</td>'
                  for name, cell in zip(names[1:], row[1:], strict=True))
        + "</tr>"
        for row in rows
    )  # fmt: skip
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{key}, a table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def stamp(instant: datetime) -> str:
    """An instant as the database writes it."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def short(instant: str | None) -> str:
    """An instant to read."""
    return NONE if instant is None else f"{datetime.fromisoformat(instant):%d %b %H:%M:%S}"


def ms(value: float | None) -> str:
    """Milliseconds to read."""
    return NONE if value is None else f"{value} ms"


def ago(seconds: float | None) -> str:
    """How long ago, to read."""
    return "never" if seconds is None else f"{seconds:.0f} s ago"
