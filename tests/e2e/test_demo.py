"""The demo's server: passes on errors of the database, refuses malformed requests, serves loopback names only."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Instance


@pytest.fixture
def demo(running: Instance) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{running.ports['DEMO_PORT']}") as client:
        yield client


def test_a_refusal_of_the_database_comes_with_its_hint(demo: httpx.Client) -> None:
    started = demo.post("/start", json={"userId": str(uuid4()), "seconds": 60}).json()
    session = {"sessionId": started["session"]["sessionId"]}
    assert demo.post("/end", json=session).status_code == 200
    refused = demo.post("/extend", json={**session, "seconds": 60})
    assert refused.status_code == 409
    assert refused.json()["error"].endswith("is over")
    assert "start_session" in refused.json()["hint"]


def test_a_match_is_saved_once_and_for_all(demo: httpx.Client, running: Instance) -> None:
    match = demo.post("/start", json={"userId": str(uuid4()), "seconds": 60}).json()["matchId"]
    saved_as = demo.post("/save", json={"matchId": match}).json()["savedAs"]
    again = demo.post("/save", json={"matchId": match})
    assert (again.status_code, saved_as in again.json()["error"]) == (409, True)
    with running.connect() as db:
        row = db.execute(
            "select converted_to_match_id from public.after_hours_matches where id = %s", (match,)
        ).fetchone()
    assert row
    assert str(row.converted_to_match_id) == saved_as


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"userId": 1, "seconds": 1}', b'{"userId": "x", "seconds": 1}'])
def test_what_the_page_does_not_send_is_not_understood(demo: httpx.Client, body: bytes) -> None:
    assert demo.post("/start", content=body).status_code == 400


def test_a_foreign_name_for_loopback_is_refused(demo: httpx.Client) -> None:
    assert demo.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert demo.post("/log-in", json={"userId": str(uuid4())}, headers={"Host": "evil.example"}).status_code == 400
