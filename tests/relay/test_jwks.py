"""RELAY_JWT_JWKS_URL against a real HTTP server that rotates its keys, fails, is slow, and answers nonsense."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest

from relay import jwks
from relay.auth import Refused, Verifier
from relay.check import check_everything
from relay.keys import KeysError, KeysUnavailable
from relay.settings import Settings
from relay.state import RelayState
from tests.conftest import free_port
from tests.helpers import FAR_AHEAD, wait_until
from tests.relay.test_auth import RSA, USER
from tests.relay.test_keys import ED, OCT, P256, as_jwk, key_set, token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Connection
    from tests.relay.conftest import StartRelay

OLD = key_set(as_jwk(RSA, kid="old", alg="RS256"), OCT)
NEW = key_set(as_jwk(RSA, kid="old", alg="RS256"), as_jwk(P256, kid="new"))
OLD_TOKEN, NEW_TOKEN = token(RSA, "RS256", "old", exp=FAR_AHEAD), token(P256, "ES256", "new", exp=FAR_AHEAD)


class Provider:
    """A server of keys: what it answers, how, and how often it was asked."""

    def __init__(self) -> None:
        self.body, self.status = OLD.encode(), 200
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.delay, self.gap = 0.0, 0.0  # seconds before the answer, and between its bytes
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.headers["User-Agent"])
                time.sleep(provider.delay)
                try:
                    self.send_response(provider.status)
                    for name, value in {"Content-Length": str(len(provider.body)), **provider.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    if provider.gap:
                        for byte in provider.body:
                            self.wfile.write(bytes([byte]))
                            time.sleep(provider.gap)
                    self.wfile.write(provider.body)
                except ConnectionError:
                    pass

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def encrypt(self, certificate: Path, key: Path) -> None:
        """Speak TLS on connections that come from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def provider() -> Iterator[Provider]:
    one = Provider()
    yield one
    one.stop()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute that is short."""
    monkeypatch.setattr(jwks, "UNKNOWN_SECONDS", 0.3)
    monkeypatch.setattr(jwks, "RETRY_SECONDS", 0.1)


def verifier_at(url: str, state: RelayState | None = None) -> Verifier:
    return Verifier(Settings(dsn="postgresql://x/x", jwt_jwks_url=url), state)  # type: ignore[arg-type]


async def test_a_new_key_is_fetched_when_its_first_token_comes(provider: Provider, soon: None) -> None:
    verifier = verifier_at(provider.url)
    assert (await verifier.authenticate(OLD_TOKEN)).user == USER  # the first fetch
    assert (await verifier.authenticate(OLD_TOKEN)).user == USER
    assert provider.asked == ["after-hours-relay"]  # Cloudflare in front of Auth0 and Clerk refuses Python-urllib
    provider.body = NEW.encode()
    await asyncio.sleep(0.3)
    both = await asyncio.gather(*[verifier.authenticate(NEW_TOKEN) for _ in range(50)])
    assert ({identity.user for identity in both}, len(provider.asked)) == ({USER}, 2)
    provider.body = key_set(as_jwk(P256, kid="new")).encode()
    await asyncio.sleep(0.3)
    with pytest.raises(Refused, match="unknown_key"):
        await verifier.authenticate(token(ED, "EdDSA", "none"))
    with pytest.raises(
        KeysUnavailable
    ):  # it is gone; whether it came back meanwhile can't be told before the minute is over
        await verifier.authenticate(OLD_TOKEN)


async def test_unknown_keys_ask_once_a_minute_and_no_client_is_sent_for_a_new_token(provider: Provider) -> None:
    verifier = verifier_at(provider.url)
    await verifier.authenticate(OLD_TOKEN)
    provider.body = NEW.encode()
    for number in range(200):
        with pytest.raises(KeysUnavailable) as unavailable:
            await verifier.authenticate(token(ED, "EdDSA", f"made up {number}"))
    assert len(provider.asked) == 1
    assert unavailable.value.reason == "unknown_key"
    assert 50_000 < unavailable.value.retry_ms <= 65_000
    assert (await verifier.authenticate(OLD_TOKEN)).user == USER
    with pytest.raises(Refused, match="wrong_key"):  # a kid that we have: no reason to ask
        await verifier.authenticate(token(P256, "ES256", "old"))


FAULTS = {
    "error": (500, b"", "HTTP 500"),
    "moved": (302, b"", "HTTP 302, a redirect: set where it leads"),
    "page": (200, b"<html>", "is neither a public key in PEM"),
    "no set": (200, b'{"certs":{}}', "is no JSON Web Key Set"),
    "empty": (200, b'{"keys":[]}', "it is empty"),
    "secret": (200, key_set(OCT).encode(), "shared (a secret)"),
    "cut": (200, OLD.encode()[:-9], "is not JSON"),
    "huge": (200, OLD.encode() + b" " * jwks.MAX_ANSWER, "the answer has more than 256 KiB"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_old_keys_stay_whatever_is_answered(
    provider: Provider, soon: None, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = RelayState()
    verifier = verifier_at(provider.url, state)
    await verifier.authenticate(OLD_TOKEN)
    provider.status, provider.body, says = FAULTS[fault]
    provider.headers = {"Location": provider.url + "/elsewhere"} if fault == "moved" else {}
    for _ in range(2):
        await asyncio.sleep(0.3)
        with pytest.raises(KeysUnavailable):
            await verifier.authenticate(NEW_TOKEN)
    assert len(provider.asked) == 3
    (line,) = [record for record in caplog.records if record.name == "relay.jwks"]
    assert says in line.__dict__["error"]
    assert (await verifier.authenticate(OLD_TOKEN)).user == USER
    assert state.keys_problem is None
    provider.status, provider.body = 200, NEW.encode()
    await asyncio.sleep(0.3)
    assert (await verifier.authenticate(NEW_TOKEN)).user == USER


@pytest.mark.parametrize(("delay", "gap"), [(30.0, 0.0), (0.0, 0.1)], ids=["silent", "byte by byte"])
async def test_a_slow_provider_is_given_up_and_stops_nothing(
    provider: Provider, soon: None, monkeypatch: pytest.MonkeyPatch, delay: float, gap: float
) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.5)
    state = RelayState()
    verifier = verifier_at(provider.url, state)
    provider.delay, provider.gap = delay, gap
    turns, before = 0, threading.active_count()
    waiting = asyncio.create_task(verifier.authenticate(OLD_TOKEN))
    while not waiting.done():
        await asyncio.sleep(0.005)
        turns += 1
    with pytest.raises(KeysUnavailable, match="no_keys"):
        await waiting
    assert turns > 20, "the loop turned meanwhile"
    assert state.keys_problem == "no keys yet: RELAY_JWT_JWKS_URL: no answer in 0.5 s"
    provider.delay, provider.gap = 0.0, 0.0
    await asyncio.sleep(0.3)
    assert (await verifier.authenticate(OLD_TOKEN)).user == USER
    assert threading.active_count() <= before + 6  # those of the server, and one that was given up


async def test_a_proxy_of_the_environment_is_not_asked_for_loopback(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert (await verifier_at(provider.url).authenticate(OLD_TOKEN)).user == USER


def test_a_certificate_that_the_system_does_not_trust_is_refused(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    provider.encrypt(tmp_path / "cert.pem", tmp_path / "key.pem")
    url = provider.url.replace("http://127.0.0.1", "https://localhost")
    with pytest.raises(KeysError, match="CERTIFICATE_VERIFY_FAILED"):
        jwks.fetch(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert jwks.fetch(url) == OLD.encode()
    with pytest.raises(KeysError, match="CERTIFICATE_VERIFY_FAILED"):
        jwks.fetch(url.replace("localhost", "127.0.0.1"))  # another name


@pytest.mark.parametrize("sockets", ["push", "stock"])
async def test_a_relay_starts_without_its_provider_and_says_so(
    start_relay: StartRelay, db: Connection, soon: None, provider: Provider, sockets: str
) -> None:
    """Never a crash loop: it is not ready, its clients come back, and all is well once the provider is there."""
    provider.status = 503
    relay = await start_relay(jwt_secret=None, jwt_jwks_url=provider.url, sockets=sockets)
    headers = {"Authorization": f"Bearer {OLD_TOKEN}"}
    async with httpx.AsyncClient() as client:
        ready = await client.get(relay.http("/readyz", admin=True))
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert ready.json()["reason"] == "no keys yet: RELAY_JWT_JWKS_URL: HTTP 503"
        answer = await client.get(relay.http("/events"), headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (503, "no_keys")
        assert int(answer.headers["retry-after"]) <= 6
        async with relay.peer(USER, token=OLD_TOKEN) as peer:
            assert peer.closed
            assert peer.closed[0] == 1013
            assert peer.closed[1]["reason"] == "no_keys"
        provider.status = 200
        await wait_until(lambda: relay.relay.state.keys_problem is None)
        assert (await client.get(relay.http("/readyz", admin=True))).status_code == 200
        assert (await client.get(relay.http("/events"), headers=headers)).status_code == 200
    async with relay.peer(USER, token=OLD_TOKEN) as peer:
        assert peer.frames[0]["type"] == "hello"
        provider.body = NEW.encode()
        await asyncio.sleep(0.3)
        await peer.say(type="auth", token=NEW_TOKEN)
        await peer.until(lambda it: it.of("snapshot"))
        await peer.say(type="auth", token=token(ED, "EdDSA", "made up"))
        await peer.until(lambda it: it.closed)
        assert peer.closed
        assert (peer.closed[0], peer.closed[1]["reason"]) == (1013, "unknown_key")


async def test_a_client_that_leaves_while_keys_are_fetched_is_forgotten(
    start_relay: StartRelay, db: Connection, soon: None, provider: Provider
) -> None:
    relay = await start_relay(jwt_secret=None, jwt_jwks_url=provider.url)
    async with relay.peer(USER, token=OLD_TOKEN) as peer:
        provider.body, provider.delay = NEW.encode(), 0.5
        await asyncio.sleep(0.3)
        await peer.say(type="auth", token=NEW_TOKEN)
        await wait_until(lambda: len(provider.asked) == 2)
    await wait_until(lambda: relay.relay.hub.count == 0)
    await wait_until(lambda: "new" in relay.relay.verifier.keys.current().summary)
    assert relay.relay.metrics.closed.labels("1013")._value.get() == 0
    assert relay.relay.hub.count == 0


async def test_check_fetches_the_keys(provider: Provider) -> None:
    def settings(url: str) -> Settings:
        return Settings(dsn=f"postgresql://x@127.0.0.1:{free_port()}/x", jwt_jwks_url=url)  # type: ignore[arg-type]

    assert (True, "keys read, 1 used: RS256 old; 1 not used: shared (a secret)") in await check_everything(
        settings(provider.url)
    )
    gone = await check_everything(settings(f"http://127.0.0.1:{free_port()}/"))
    assert (False, "RELAY_JWT_JWKS_URL: [Errno 111] Connection refused") in gone
