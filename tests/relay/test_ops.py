"""The operations page: its contents, no user's data, and accessibility."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from relay.admin.charts import chart, grid, number
from relay.admin.guard import Guard
from relay.admin.ops import HEADERS, page
from relay.database.session import DatabaseSession
from tests.helpers import wait_until
from tests.relay.conftest import Running, expire, warn

if TYPE_CHECKING:
    from uuid import UUID

    from tests.conftest import Connection

ALONE = {"meta", "link", "input", "br", "line", "rect"}


class Outline(HTMLParser):
    """Tags with their attributes, and the text; raises if a tag is not closed."""

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
    assert "a <move>" in text, "escaped"
    assert "select after_hours.resume_job('purge');" in text
    assert "announce_spare" in text
    assert "test-0" in text
    assert str(user) not in answer.text
    assert str(session) not in answer.text


async def test_the_page_is_usable_by_screen_reader_and_keyboard(relay: Running, db: Connection) -> None:
    outline = Outline((await fetch(relay)).text)
    assert outline.all("html")[0]["lang"] == "en"
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in outline.all("svg"))
    assert len(outline.all("svg")) == sum(tag == "figcaption" for tag, _ in outline.tags)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = {attributes["aria-labelledby"] for _, attributes in outline.tags if "aria-labelledby" in attributes}
    assert referred <= set(ids)
    assert all("tabindex" in box for box in outline.all("div") if box.get("class") == "scroll")


async def test_the_page_loads_nothing_from_other_servers(relay: Running, db: Connection) -> None:
    answer = await fetch(relay)
    assert not re.search(r"(src|href|action)=[\"']?(https?:)?//", answer.text)
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert " style=" not in answer.text, "the policy would ignore it"


async def test_the_json_has_the_same_content_and_no_user_id(relay: Running, db: Connection, user: UUID) -> None:
    expire(db, user)
    db.execute(
        "insert into after_hours.set_aside (session_id, type, deadline, sqlstate, message, retry_at)"
        " select s.id, 'after_hours:session_expired', s.expires_at, '23505', %s, now() from public.after_hours_sessions as s",
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


async def test_requests_in_quick_succession_share_a_status_call(
    relay: Running, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    status = DatabaseSession.status

    async def counted(session: DatabaseSession) -> str:
        nonlocal asked
        asked += 1
        return await status(session)

    monkeypatch.setattr(DatabaseSession, "status", counted)
    async with httpx.AsyncClient() as client:
        for _ in range(5):
            await client.get(relay.http("/ops", admin=True))
    assert asked == 1


async def test_a_status_that_raises_is_shown_with_its_reason_and_logged(
    relay: Running, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """A view raised because of odd rows; the page then reported a lost connection, and nothing was logged."""
    body = db.execute("select pg_get_functiondef('after_hours.relay_status'::regproc) as text").fetchone()
    assert body
    try:
        db.execute(
            "create or replace function after_hours.relay_status() returns text language plpgsql stable"
            " security definer set search_path to '' as $$ begin raise 'an <odd> row' using errcode = '22000'; end $$"
        )
        said = (await fetch(relay, "application/json")).json()
        assert said["relay"]["state"] == "live"
        assert said["database"] is None
        assert said["error"] == "unexpected answer of the database: relay_status: DataError: an <odd> row"
        html = (await fetch(relay)).text
        assert "an &lt;odd&gt; row" in html
        assert "this page: following" not in html
    finally:
        db.execute(body.text)
    assert [record.__dict__["call"] for record in caplog.records if "unexpected answer" in record.message] == [
        "relay_status"
    ]


@pytest.mark.parametrize("path", ["/ops", "/metrics", "/readyz", "/livez", "/nowhere"])
async def test_a_request_for_another_host_name_is_refused(relay: Running, path: str) -> None:
    """DNS rebinding: evil.example resolves to this address; the Host header shows it."""
    assert relay.relay.admin_bind
    port = relay.relay.admin_bind[1]
    expected = 404 if path == "/nowhere" else 200
    async with httpx.AsyncClient() as client:

        async def ask(host: str) -> httpx.Response:
            return await client.get(relay.http(path, admin=True), headers={"Host": host})

        for host in (
            "rebind.evil.example", f"rebind.evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example",
            "evil.example.", "[::1", "0.0.0.0.0", "127.1.evil",
        ):  # fmt: skip
            answer = await ask(host)
            assert (host, answer.status_code, answer.json()) == (host, 403, {"error": "host"})
            assert answer.headers["x-content-type-options"] == "nosniff"
        for host in (
            f"127.0.0.1:{port}",
            "10.1.2.3",
            "[::1]",
            f"[fd00::1]:{port}",
            "localhost",
            "LOCALHOST:1",
            "relay",
        ):
            answer = await ask(host)
            assert (host, answer.status_code) == (host, expected)
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_name_in_relay_admin_bind_is_accepted() -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("x")(scope, receive, send)

    transport = httpx.ASGITransport(Guard(nothing, "Relay.Internal.example:8788"))
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await client.get("http://relay.internal.example/ops")).status_code == 200
        assert (await client.get("http://other.internal.example/ops")).status_code == 403


async def test_a_request_leaves_no_connection_open(relay: Running, db: Connection) -> None:
    def connections() -> Any:
        row = db.execute("select count(*) as n from pg_stat_activity where usename = 'after_hours_relay'").fetchone()
        assert row
        return row.n

    before = connections()
    await fetch(relay)
    await wait_until(lambda: connections() == before)


def test_without_a_database_the_page_shows_the_reason() -> None:
    relay = {"node": "n", "state": "stale", "mode": None, "reason": "OSError: refused", "sockets": 3, "users": 2}
    text = " ".join(Outline(page(relay, None)).words)
    assert "did not answer this page: OSError: refused" in text
    assert "✗" in text


def test_bars_have_heights_in_proportion_to_their_values() -> None:
    rows = [("one", (10, 30)), ("two", (0, 0)), ("three", (5, 0))]
    html = chart("c", "Title", ("a", "b"), rows, unit="u", stacked=True)
    rects = Outline(html).all("rect")
    assert [(rect["class"], float(rect["height"] or 0)) for rect in rects] == [("s1", 130), ("s0", 32.5), ("s0", 16.2)]
    assert "nothing yet" not in html


def test_an_empty_chart_says_nothing_yet() -> None:
    assert "nothing yet" in chart("c", "Title", ("a",), [], unit="u")
    assert "nothing yet" in chart("c", "Title", ("a",), [("x", (0,))], unit="u", log_from=1, mark=(20, "m"))


def test_a_logarithmic_grid_has_the_powers_of_ten() -> None:
    assert grid(350, 1) == [1, 10, 100]
    assert grid(3, 1) == [1, 10]
    assert grid(50, None) == [50]


def test_numbers_are_rounded_and_grouped() -> None:
    assert [number(value) for value in (0, 1.26, 12.6, 5, 33595)] == ["0", "1.3", "13", "5", "33,595"]
