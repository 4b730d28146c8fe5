"""The operations page: what it shows is there, nothing of a user is, and everybody can read it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import httpx

from relay.admin.charts import chart, grid, number
from relay.admin.ops import HEADERS, page
from tests.relay.conftest import Running, eventually, expire, warn

if TYPE_CHECKING:
    from uuid import UUID

    from tests.conftest import Connection

ALONE = {"meta", "link", "input", "br", "line", "rect"}


class Outline(HTMLParser):
    """Tags with their attributes and the text; raises where one is left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ALONE:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


async def fetch(relay: Running, accept: str = "text/html") -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(relay.http("/ops", admin=True), headers={"Accept": accept})


async def test_the_page_shows_health_jobs_purges_and_what_is_due(relay: Running, db: Connection, user: UUID) -> None:
    db.execute("select after_hours.pause_job('purge', now() + interval '1 hour', 'a <move>')")
    session = warn(db, user, seconds=600)
    answer = await fetch(relay)
    outline = Outline(answer.text)
    text = " ".join(outline.words)
    for heading in ("Health", "Announcing", "Purging", "Jobs", "Relays"):
        assert heading in text
    assert "a <move>" in text, "escaped, not obeyed"
    assert "select after_hours.resume_job('purge');" in text
    assert "announce_spare" in text
    assert "test-0" in text
    assert str(user) not in answer.text
    assert str(session) not in answer.text


async def test_it_can_be_used_without_eyes_and_without_a_mouse(relay: Running, db: Connection) -> None:
    outline = Outline((await fetch(relay)).text)
    assert outline.all("html")[0]["lang"] == "en"
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in outline.all("svg"))
    assert len(outline.all("svg")) == sum(tag == "figcaption" for tag, _ in outline.tags)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = {attributes["aria-labelledby"] for _, attributes in outline.tags if "aria-labelledby" in attributes}
    assert referred <= set(ids)
    assert all("tabindex" in box for box in outline.all("div") if box.get("class") == "scroll")


async def test_nothing_comes_from_elsewhere(relay: Running, db: Connection) -> None:
    answer = await fetch(relay)
    assert not re.search(r"(src|href|action)=[\"']?(https?:)?//", answer.text)
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert " style=" not in answer.text, "the policy would ignore it"


async def test_programs_get_the_same_as_json_without_anybodys_id(relay: Running, db: Connection, user: UUID) -> None:
    expire(db, user)
    db.execute(
        "insert into after_hours.set_aside (session_id, type, deadline, sqlstate, message, retry_at)"
        " values (gen_random_uuid(), 'after_hours:session_expired', now(), '23505', %s, now())",
        (f"Key (user_id)=({user}) already exists",),
    )
    said = (await fetch(relay, "application/json")).json()
    health = {check["check"]: check for check in said["database"]["health"]}
    assert health["set_aside"]["ok"] is False
    assert "Key (user_id)=((id)) already exists" in health["set_aside"]["detail"]
    assert str(user) not in str(said)
    assert said["database"]["lastHour"]["events"] == 1
    assert said["database"]["unreachedWarnings"] == 0
    assert len(said["database"]["purges"]) == 14


async def test_many_who_look_ask_the_database_once(relay: Running, db: Connection) -> None:
    asked = 0
    status = relay.relay.listener.status

    async def counted() -> str | None:
        nonlocal asked
        asked += 1
        return await status()

    relay.relay.listener.status = counted  # type: ignore[method-assign]
    async with httpx.AsyncClient() as client:
        for _ in range(5):
            await client.get(relay.http("/ops", admin=True))
    assert asked == 1


async def test_looking_leaves_no_connection_behind(relay: Running, db: Connection) -> None:
    def connections() -> Any:
        row = db.execute("select count(*) as n from pg_stat_activity where usename = 'after_hours_relay'").fetchone()
        assert row
        return row.n

    before = connections()
    await fetch(relay)
    await eventually(lambda: connections() == before)


def test_without_a_database_it_says_so() -> None:
    relay = {"node": "n", "state": "stale", "mode": None, "reason": "OSError: refused", "sockets": 3, "users": 2}
    text = " ".join(Outline(page(relay, None)).words)
    assert "can't ask the database: OSError: refused" in text
    assert "✗" in text


def test_bars_are_as_high_as_their_values() -> None:
    rows = [("one", (10, 30)), ("two", (0, 0)), ("three", (5, 0))]
    html = chart("c", "Title", ("a", "b"), rows, unit="u", stacked=True)
    rects = Outline(html).all("rect")
    assert [(rect["class"], float(rect["height"] or 0)) for rect in rects] == [("s1", 130), ("s0", 32.5), ("s0", 16.2)]
    assert "nothing yet" not in html


def test_a_chart_of_nothing_says_so() -> None:
    assert "nothing yet" in chart("c", "Title", ("a",), [], unit="u")
    assert "nothing yet" in chart("c", "Title", ("a",), [("x", (0,))], unit="u", log_from=1, mark=(20, "m"))


def test_a_logarithmic_grid_has_the_powers_of_ten() -> None:
    assert grid(350, 1) == [1, 10, 100]
    assert grid(3, 1) == [1, 10]
    assert grid(50, None) == [50]


def test_numbers_are_written_to_be_read() -> None:
    assert [number(value) for value in (0, 1.26, 12.6, 5, 33595)] == ["0", "1.3", "13", "5", "33,595"]
