"""The command `check`: tests each thing that a relay needs, one line each. Changes nothing."""

from __future__ import annotations

import asyncio
import errno
import json
import resource
import time
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

from relay.auth import LEEWAY, Verifier
from relay.database.connect import Connector, explain_failure
from relay.database.session import DatabaseSession
from relay.dsn import list_ignored, read_dsn
from relay.websocket.limits import RESERVE
from relay.websocket.server import listening_socket

if TYPE_CHECKING:
    from relay.dsn import Host
    from relay.settings import Settings

PROBE_SECONDS = 2.0


async def check_everything(settings: Settings) -> list[tuple[bool, str]]:
    """(is good, one line) for each thing looked at."""
    found = [(True, "settings read")]
    try:
        keys = await Verifier(settings).keys.read()
        found.append((True, f"keys read, {keys.summary}"))
    except (OSError, ValueError) as error:
        found.append((False, f"{'RELAY_JWT_KEY_FILE' if settings.jwt_key_file else 'RELAY_JWT_JWKS_URL'}: {error}"))
    for name, address in (("RELAY_BIND", settings.bind), ("RELAY_ADMIN_BIND", settings.admin_bind)):
        try:
            with closing(listening_socket(address)):
                found.append((True, f"{name}: {address} is free"))
        except OSError as error:
            hint = " (is a relay running?)" if error.errno == errno.EADDRINUSE else ""
            found.append((False, f"{name}: {address}: {error.strerror}{hint}"))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = settings.max_sockets + RESERVE
    found.append((files >= wanted, f"open files: {files} allowed, RELAY_MAX_SOCKETS needs {wanted}"))
    hosts = read_dsn(settings.dsn.get_secret_value())
    found += [(True, f"RELAY_DSN: {name} has no effect: {why}") for name, why in list_ignored(hosts[0]).items()]
    for host in hosts:
        found += await check_host(host, settings)
    return found


async def check_host(host: Host, settings: Settings) -> list[tuple[bool, str]]:
    """One host of RELAY_DSN: connect, LISTEN, call the functions, receive the probe."""
    name = f"RELAY_DSN: {host.name}"
    heard = asyncio.Event()
    try:
        session = await DatabaseSession.open(Connector(host, settings), lambda: None, lambda _payload: heard.set())
    except Exception as error:
        return [(False, f"{name}: {explain_failure(error)}")]
    try:
        page = await session.read(None)
        asked_at = time.time()
        status = json.loads(await session.status())
        answered_at = time.time()
        if not session.is_pooled:
            await session.probe("check")
            async with asyncio.timeout(PROBE_SECONDS):
                await heard.wait()
    except TimeoutError:
        return [(False, f"{name}: no NOTIFY comes back in {PROBE_SECONDS:g} s (a pooler in between?)")]
    except Exception as error:
        return [(False, f"{name}: {explain_failure(error)}")]
    finally:
        session.terminate()
    age = status["heartbeatAgeSeconds"]
    beat = age is not None and age < 65
    # Tokens are checked by our clock, deadlines by the database's, and clients count down by the latter.
    skew = datetime.fromisoformat(status["serverTime"]).timestamp() - (asked_at + answered_at) / 2
    wakes = "polls every second (a transaction pooler is in between)" if session.is_pooled else "receives NOTIFY"
    clocks = f"the database's clock is {abs(skew):.2f} s {'ahead of' if skew > 0 else 'behind'} ours"
    return [
        (
            abs(skew) < LEEWAY,
            f"{name}: {clocks}{'' if abs(skew) < LEEWAY else ': synchronise both (chrony, timesyncd)'}",
        ),
        (True, f"{name}: a primary, {wakes}, events up to {page.cursor}"),
        (beat, f"{name}: {'announcing' if beat else 'not announcing'}, heartbeat {age} s ago"),
    ]
