"""The demo page and the operations page in Chromium, with real pg_cron, NOTIFY, relay and browser client."""

from __future__ import annotations

import json
import os
import shutil
import signal
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from demo.tokens import make_token
from tests.helpers import find_tool, free_port, poll_until
from tests.relay.nginx import start_plain_nginx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Request, Route

    from tests.conftest import Instance

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
PATIENCE = 30_000  # ms, for a busy machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    expect.set_options(timeout=PATIENCE)
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        context.set_default_timeout(PATIENCE)
        yield context


@pytest.fixture
def address(running: Instance) -> str:
    return f"http://127.0.0.1:{running.ports['DEMO_PORT']}/"


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """The demo page, connected; an error of its script fails the test."""
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    connect(page, address)
    yield page
    assert errors == []


def connect(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#connection")).to_have_text("connected")


def count(page: Page, kind: str) -> int:
    """Return how many frames of a type the page shows."""
    return page.locator("#frames b", has_text=kind).count()


def state(page: Page) -> Any:
    return page.locator("#clock").get_attribute("data-state")


def stored_cursor(page: Page) -> str:
    """Return the cursor that the page would send after a reload."""
    return str(
        page.evaluate("JSON.parse(Object.entries(sessionStorage).find(([k]) => k.startsWith('after-'))[1]).cursor")
    )


def test_session_from_start_to_end(page: Page) -> None:
    page.get_by_role("button", name="Start 20 s").click()
    expect(page.get_by_role("alert").first).to_contain_text("This chat ends in")
    expect(page.locator("#left")).to_have_text("0:15")
    page.get_by_role("button", name="Save this chat").click()
    expect(page.locator("#saved")).to_have_text("Saved: it will not be deleted.")
    expect(page.locator("#note")).to_have_text("over: the time is up")
    assert page.locator("#left").inner_text() == "0:00"
    assert "ms after it was due" in page.locator("#lateness").inner_text()
    assert (count(page, "session_expiring"), count(page, "session_expired")) == (1, 1)

    cursor = stored_cursor(page)
    page.reload()
    expect(page.locator("#start")).to_have_text("replayed")
    expect(page.locator("#note")).to_contain_text("over")
    expect(page.locator("#cursor")).to_have_text(cursor)
    assert count(page, "session_expired") == 0


def test_relay_restart_during_a_session(page: Page, running: Instance) -> None:
    page.get_by_role("button", name="Start 10 min").click()
    expect(page.locator("#clock")).to_have_attribute("data-state", "active")
    node, user = page.locator("#node").inner_text(), page.locator("#user").text_content()
    pid = int((running.home / "relay.pid").read_text().split()[0])
    os.kill(pid, signal.SIGTERM)
    expect(page.locator("#connection")).not_to_have_text("connected")
    poll_until(lambda: not Path(f"/proc/{pid}").exists())
    assert page.locator("#left").inner_text().startswith("9:"), "the countdown goes on"
    with running.connect("after_hours_app") as app:
        app.execute(
            "select after_hours.end_session(id, 'moderation') from public.after_hours_sessions where user_id = %s",
            (user,),
        )
    running.dev("up", "--detach")
    expect(page.locator("#connection")).to_have_text("connected")
    expect(page.locator("#note")).to_have_text("over: ended by a moderator")
    assert page.locator("#start").inner_text() == "replayed"
    assert page.locator("#node").inner_text() != node
    assert count(page, "session_expired") == 1


def test_database_outage_during_a_session(page: Page, running: Instance) -> None:
    page.get_by_role("button", name="Start 10 min").click()
    expect(page.locator("#clock")).to_have_attribute("data-state", "active")
    user = page.locator("#user").text_content()
    with running.connect() as db:
        db.execute("alter role after_hours_relay nologin")
        try:
            db.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'after_hours_relay'")
            expect(page.locator("#connection")).to_have_text("connected, but the relay cannot read its database")
            db.execute(
                "select after_hours.end_session(s.id, 'moderation')"
                " from public.after_hours_sessions as s where s.user_id = %s",
                (user,),
            )
            poll_until(lambda: db.execute("select from after_hours.events where user_id = %s", (user,)).fetchall())
        finally:
            db.execute("alter role after_hours_relay login")
    expect(page.locator("#connection")).to_have_text("connected")
    expect(page.locator("#note")).to_have_text("over: ended by a moderator")
    assert page.locator("#start").inner_text() == "fresh, then 1 replayed"
    assert count(page, "hello") == 1, "the connection to the relay was kept"


def test_unknown_cursor_leads_to_a_reset(page: Page) -> None:
    page.get_by_role("button", name="Start 10 min").click()
    expect(page.locator("#clock")).to_have_attribute("data-state", "active")
    page.evaluate(
        "(user) => { sessionStorage[`after-hours:${user}`] = JSON.stringify({ cursor: 'ffffffff-7', seen: [] }) }",
        page.locator("#user").text_content(),
    )
    page.reload()
    expect(page.locator("#start")).to_have_text("reset")
    expect(page.locator("#clock")).to_have_attribute("data-state", "active")
    assert stored_cursor(page) != "ffffffff-7"


def test_session_ends_while_the_browser_is_offline(page: Page, context: BrowserContext) -> None:
    user = page.locator("#user").text_content()
    page.evaluate(
        "(userId) => fetch('start', { method: 'POST', body: JSON.stringify({ userId, seconds: 10 }) })",
        user,  # not by the page, which learns of the session by its next snapshot
    )
    page.reload()
    expect(page.locator("#clock")).to_have_attribute("data-state", "warned")
    context.set_offline(True)
    expect(page.locator("#connection")).not_to_have_text("connected")
    expect(page.locator("#note")).to_have_text("over: the time is up")
    assert count(page, "session_expired") == 0, "the page counted down locally"
    context.set_offline(False)
    expect(page.locator("#connection")).to_have_text("connected")
    expect(page.locator("#frames b", has_text="session_expired")).to_have_count(1)
    assert page.locator("#start").inner_text() == "replayed"
    expect(page.locator("#note")).to_have_text("over: the time is up")


def test_expiring_token_is_renewed_on_the_same_connection(
    context: BrowserContext, running: Instance, address: str
) -> None:
    page, user, secret = context.new_page(), uuid4(), (running.home / "secret").read_text().strip()
    lifetimes = iter((61.5, 61.5))  # one request of the page, then one of its client

    def log_in(route: Route) -> None:
        token = make_token(secret, user, lifetime=next(lifetimes, 3600))
        route.fulfill(json={"token": token, "relayPort": int(running.ports["RELAY_PORT"])})

    page.route("**/log-in", log_in)
    connect(page, f"{address}?user={user}")
    expect(page.locator("#frames b", has_text="auth_expiring")).to_have_count(1)
    expect(page.locator("#frames b", has_text="snapshot")).to_have_count(1)
    assert count(page, "hello") == 1, "on the same connection"


def test_where_no_websocket_gets_through_a_stream_does(
    context: BrowserContext, running: Instance, address: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Behind a proxy that passes on no Upgrade and buffers answers; the page's origin is not the relay's."""
    home, port = tmp_path_factory.mktemp("nginx"), free_port()
    page, user, secret = context.new_page(), uuid4(), (running.home / "secret").read_text().strip()
    lifetimes = iter((61.5,) * 4)  # one request of the page, two for WebSockets, one for the first stream
    streams: list[str] = []

    def note(request: Request) -> None:
        if request.headers.get("accept") == "text/event-stream":
            streams.append(request.url)

    def log_in(route: Route) -> None:
        token = make_token(secret, user, lifetime=next(lifetimes, 3600))
        route.fulfill(json={"token": token, "relayPort": port})

    page.on("request", note)
    page.route("**/log-in", log_in)
    process = start_plain_nginx(find_tool("nginx"), home, port, int(running.ports["RELAY_PORT"]))
    try:
        connect(page, f"{address}?user={user}")
        expect(page.locator("#frames b", has_text="auth_expiring")).to_have_count(1)
        expect(page.locator("#frames b", has_text="hello")).to_have_count(2)
        assert streams == [f"http://127.0.0.1:{port}/events"] * 2
        page.get_by_role("button", name="Start 20 s").click()
        expect(page.get_by_role("alert").first).to_contain_text("This chat ends in")
        expect(page.locator("#frames b", has_text="snapshot")).not_to_have_count(0)
        expect(page.locator("#note")).to_have_text("over: the time is up")
        assert (count(page, "session_expiring"), count(page, "session_expired")) == (1, 1)
        cursor = stored_cursor(page)
        page.reload()
        expect(page.locator("#start")).to_have_text("replayed")
        expect(page.locator("#cursor")).to_have_text(cursor)
    finally:
        process.terminate()
        process.wait()


def test_two_tabs_of_one_user_both_get_the_end(page: Page, context: BrowserContext) -> None:
    page.locator("summary", has_text="User and token").click()
    with context.expect_page() as opening:
        page.get_by_role("link", name="Open a second tab as the same user").click()
    other = opening.value
    expect(other.locator("#connection")).to_have_text("connected")
    page.get_by_role("button", name="Start 10 min").click()
    expect(page.locator("#clock")).to_have_attribute("data-state", "active")
    other.reload()
    expect(other.locator("#clock")).to_have_attribute("data-state", "active")
    other.get_by_role("button", name="One minute more").click()
    expect(other.locator("#left")).to_contain_text("10:")
    page.get_by_role("button", name="End now").click()
    for tab in (page, other):
        expect(tab.locator("#note")).to_have_text("over: ended by you")
    expect(other.locator("#cursor")).to_have_text(stored_cursor(page))


def test_page_of_another_origin_cannot_connect(
    page: Page, context: BrowserContext, running: Instance, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    server = ThreadingHTTPServer(("127.0.0.1", free_port()), partial(QuietHandler, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        foreign = context.new_page()
        foreign.goto(f"http://127.0.0.1:{server.server_port}/")
        url, token = (
            f"ws://127.0.0.1:{running.ports['RELAY_PORT']}/ws",
            running.dev("token", str(uuid4())).stdout.strip(),
        )
        attempt = """([url, token]) => new Promise((resolve) => {
            const socket = new WebSocket(url, "after-hours.v1");
            socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token }));
            socket.onmessage = ({ data }) => resolve(data);
            socket.onclose = ({ code }) => resolve(code);
        })"""
        assert foreign.evaluate(attempt, [url, token]) == 1006
        assert json.loads(page.evaluate(attempt, [url, token]))["type"] == "hello", "the demo page can connect"
    finally:
        server.shutdown()
        server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    """A request handler without an access log."""

    def log_message(self, *_: object) -> None: ...


def test_operations_page_refreshes_and_fits_a_phone(context: BrowserContext, running: Instance) -> None:
    page, messages = context.new_page(), list[str]()
    page.on("console", lambda message: messages.append(message.text))
    page.clock.install()
    page.goto(f"http://127.0.0.1:{running.ports['RELAY_ADMIN_PORT']}/ops")
    expect(page.get_by_role("heading", name="Purging")).to_be_visible()
    page.locator("#jobs").evaluate("node => { node.dataset.old = true }")
    page.locator("#lateness-table summary").click()
    page.locator("#lateness-table summary").evaluate("node => node.blur()")
    page.clock.fast_forward(16_000)
    expect(page.locator("#jobs:not([data-old])")).to_have_count(1)
    assert page.locator("#lateness-table").evaluate("node => node.open"), "the open table stays open"
    assert messages == [], "no message, for example about the content security policy"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_the_screen(page: Page, width: int, scheme: Any) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.get_by_role("button", name="Start 10 min").click()
    expect(page.get_by_role("button", name="End now")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background, text = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (brightness(background) > brightness(text)) == (scheme == "light")


def brightness(color: str) -> int:
    return sum(int(part) for part in color[4:-1].split(","))


def test_page_works_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#clock")).to_have_attribute("data-state", "active")
    expect(page.get_by_role("button", name="One minute more")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#note")).to_have_text("over: ended by you")
    expect(page.get_by_role("button", name="Start 20 s")).to_be_focused()
