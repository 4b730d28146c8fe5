"""The keys at RELAY_JWT_JWKS_URL: fetched in a thread, looked at again now and then, kept when that fails.

PyJWT's own client limits neither the size of an answer nor the time that it takes in all, and does not say which keys
it has left out.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import urllib.request
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError

from relay.keys import Keys, KeysError, KeySet, KeysUnavailable, read_keys
from relay.logs import RateLimitedLogger
from relay.protocol import jitter_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.state import RelayState

REFRESH_SECONDS = 300.0  # between two fetches that nothing asked for
UNKNOWN_SECONDS = 60.0  # between two that unknown keys ask for, or failures
RETRY_SECONDS = 5.0  # the same while there are no keys at all
FETCH_SECONDS = 5.0  # for an answer, in all
SOCKET_SECONDS = 3.0  # for each of its pieces
MAX_ANSWER = 256 * 1024  # bytes
HEADERS = {"Accept": "application/json", "User-Agent": "after-hours-relay"}  # some providers refuse Python-urllib

log = logging.getLogger("relay.jwks")


class RemoteKeys(Keys):
    """Keys that a provider publishes and replaces."""

    is_renewable = True

    def __init__(self, url: str, state: RelayState) -> None:
        super().__init__(KeySet())
        self._url, self._state = url, state
        self._log = RateLimitedLogger(log)
        self._answer = b""
        self._began_at = time.monotonic() - UNKNOWN_SECONDS
        self._fetching: asyncio.Task[bool] | None = None
        state.keys_problem = "no keys yet: RELAY_JWT_JWKS_URL has not been read"

    async def follow(self) -> None:
        """Keep the keys current for as long as the process runs."""
        while True:
            is_good = await self._renew()
            await asyncio.sleep(REFRESH_SECONDS if is_good else self._pause)

    async def renew(self) -> None:
        """Fetch the keys if that is not too soon, for a token that none of them fits. Raises KeysUnavailable."""
        is_due = self._fetching is not None or self._wait_ms == 0
        if not (is_due and await self._renew()):
            reason = "unknown_key" if self._keys.keys else "no_keys"
            raise KeysUnavailable(reason, jitter_ms(self._wait_ms, self._wait_ms + 5000))

    async def read(self) -> KeySet:
        """What the provider answers. Raises KeysError."""
        self._began_at = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                self._answer = await in_thread(lambda: fetch(self._url))
        except TimeoutError:
            raise KeysError(f"no answer in {FETCH_SECONDS:g} s") from None
        return read_keys(self._answer)

    @property
    def _pause(self) -> float:
        return UNKNOWN_SECONDS if self._keys.keys else RETRY_SECONDS

    @property
    def _wait_ms(self) -> int:
        return max(0, ceil((self._began_at + self._pause - time.monotonic()) * 1000))

    async def _renew(self) -> bool:
        """Fetch the keys, once for all that wait for them. True if that has succeeded."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._read_and_adopt())
        return await asyncio.shield(self._fetching)

    async def _read_and_adopt(self) -> bool:
        before = self._answer
        try:
            keys = await self.read()
        except KeysError as error:
            if self._keys.keys:
                self._log.warning("RELAY_JWT_JWKS_URL can't be read, the old keys stay", error=str(error))
            else:
                self._state.keys_problem = f"no keys yet: RELAY_JWT_JWKS_URL: {error}"
                self._log.error("RELAY_JWT_JWKS_URL can't be read, no token can be verified", error=str(error))
            return False
        finally:
            self._fetching = None
        self._state.keys_problem = None
        if self._answer != before or not self._keys.keys:
            self._adopt(keys)
        return True


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from the address that the operator has set, and from no other."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


def fetch(url: str) -> bytes:
    """The answer at an address. Raises KeysError and TimeoutError."""
    deadline = time.monotonic() + FETCH_SECONDS
    handlers: list[urllib.request.BaseHandler] = [NoRedirect()]
    if url.startswith("http:"):  # loopback: a proxy of the environment would take it off this machine
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=HEADERS)  # noqa: S310 - the settings allow https, and http on loopback
    answer = bytearray()
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=SOCKET_SECONDS) as response:
            while piece := response.read1(65536):
                answer += piece
                if len(answer) > MAX_ANSWER:
                    raise KeysError(f"the answer has more than {MAX_ANSWER // 1024} KiB")
                if time.monotonic() > deadline:
                    raise TimeoutError
    except HTTPError as error:
        error.close()
        raise KeysError(f"HTTP {error.code}{', a redirect: set where it leads' if error.code < 400 else ''}") from None
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise error.reason from None
        raise KeysError(f"{error.reason}") from None
    except (KeysError, TimeoutError):
        raise
    except Exception as error:  # whatever an address answers, the old keys stay
        raise KeysError(f"{type(error).__name__}: {error}"[:200]) from None
    return bytes(answer)


async def in_thread(work: Callable[[], bytes]) -> bytes:
    """Call in a thread of its own, for which the end of the process does not wait."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def settle(result: bytes | None, error: Exception | None) -> None:
        if done.done():  # given up
            return
        if result is not None:
            done.set_result(result)
        elif error is not None:
            done.set_exception(error)

    def run() -> None:
        result, problem = None, None
        try:
            result = work()
        except Exception as error:
            problem = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, daemon=True, name="keys").start()
    return await done
