"""@after-hours/client as npm would publish it, imported by its name in a real browser, and told of an end."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from demo.tokens import make_token
from tests.e2e.test_browser import browser as browser
from tests.e2e.test_browser import context as context
from tests.helpers import REPO

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Route

    from tests.conftest import Instance

PAGE = """<!doctype html><script type="importmap">{"imports": {"@after-hours/client": "/client/%(entry)s"}}</script>
<script type="module">
import { AfterHours } from "@after-hours/client";
window.told = [];
const hours = new AfterHours({ url: "%(url)s", userId: "%(user)s", token: () => "%(token)s",
  onExpiring: (event) => told.push("expiring"), onExpired: ({ reason }) => told.push(reason),
  onState: ({ state }) => { document.title = state; } });
hours.connect();
</script>"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that npm makes of the tarball."""
    place = tmp_path_factory.mktemp("npm")
    command = ["npm", "pack", "--silent", "--pack-destination", str(place)]
    subprocess.run(command, cwd=REPO / "clients" / "browser", check=True, capture_output=True, timeout=60)
    (tarball,) = place.glob("*.tgz")
    subprocess.run(["tar", "-xzf", tarball, "-C", place], check=True)
    return place / "package"


def test_size_is_what_its_readme_says(package: Path) -> None:
    size = len(gzip.compress((package / "after-hours.js").read_bytes()))
    assert size < 10_000
    assert "less than 10 kB" in (package / "README.md").read_text()


def test_a_page_that_imports_it_by_name_is_told(package: Path, running: Instance, context: BrowserContext) -> None:
    entry = json.loads((package / "package.json").read_text())["exports"]["."]["default"].removeprefix("./")
    assert (package / "after-hours.d.ts").is_file()
    user = uuid4()
    origin = f"http://127.0.0.1:{running.ports['DEMO_PORT']}"
    html = PAGE % {
        "entry": entry, "user": user, "url": f"ws://127.0.0.1:{running.ports['RELAY_PORT']}/ws",
        "token": make_token((running.home / "secret").read_text().strip(), user),
    }  # fmt: skip

    def client_file(route: Route) -> None:
        name = route.request.url.rsplit("/", 1)[1]
        route.fulfill(path=package / name, content_type="text/javascript")

    context.grant_permissions(["local-network-access"])  # the page itself comes from no address
    context.route(f"{origin}/page", lambda route: route.fulfill(body=html, content_type="text/html"))
    context.route(f"{origin}/client/*", client_file)
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{origin}/page")
    page.wait_for_function("document.title === 'live'")
    with running.connect("after_hours_app") as app:
        started = app.execute("select id from after_hours.start_session(%s, '90 seconds')", (user,)).fetchone()
        assert started
        page.wait_for_function("told.length === 1")
        app.execute("select after_hours.end_session(%s, 'user')", (started.id,))
    page.wait_for_function("told.length === 2")
    assert page.evaluate("told") == ["expiring", "ended"]
    assert errors == []
