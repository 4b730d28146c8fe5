"""after-hours tick: runs the jobs of job_plan on servers without pg_cron. What is due is decided by the database."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
from typing import Any

import click
import psycopg

from relay.commands.database import NoConnection
from relay.dsn import DsnError, prepare_dsn
from relay.logs import RateLimitedLogger, configure

log = logging.getLogger("relay.tick")
rare = RateLimitedLogger(log)

LOOP = b"call after_hours.announce_loop(make_interval(secs => %s))"  # until that phase of the next minute
BEAT_SECONDS = 5.0
RETRY_SECONDS = 5.0

Connection = psycopg.AsyncConnection[Any]


class Ticker:
    """Announces all the time, and asks every few seconds for a job whose time has come."""

    def __init__(self, dsn: str, node: str) -> None:
        self._dsn = dsn
        self._node = node
        self._stop = asyncio.Event()
        self._phase = random.uniform(0.25, 29)  # noqa: S311 # two tickers do not end their loops together

    def stop(self) -> None:
        """End after the present statements, which are cancelled."""
        self._stop.set()

    async def run(self) -> None:
        """Run until stop()."""
        loops = [asyncio.create_task(self._keep(each)) for each in (self._announce, self._jobs)]
        await self._stop.wait()
        for task in loops:
            task.cancel()  # psycopg cancels the statement, which frees its locks
        await asyncio.gather(*loops, return_exceptions=True)
        try:
            async with await self._connect() as connection:
                await connection.execute("select after_hours.ticker_finish(%s)", (self._node,))
        except psycopg.Error:
            log.warning("the database does not know that this ticker has ended")

    async def _keep(self, work: Any) -> None:
        while True:
            try:
                async with await self._connect() as connection:
                    await work(connection)
            except psycopg.Error as error:
                rare.warning("trying again", error=str(error).strip())
            await asyncio.sleep(random.uniform(0.5, 1) * RETRY_SECONDS)  # noqa: S311 # jitter

    async def _connect(self) -> Connection:
        return await psycopg.AsyncConnection.connect(
            self._dsn,
            fallback_application_name="after-hours-tick",
            autocommit=True,
            target_session_attrs="read-write",
        )

    async def _announce(self, connection: Connection) -> None:
        while True:
            began = asyncio.get_running_loop().time()
            await connection.execute(LOOP, (self._phase,))
            # paused, a copy, or in tick mode: it returns at once
            await asyncio.sleep(max(0.0, 1.0 - (asyncio.get_running_loop().time() - began)))

    async def _jobs(self, connection: Connection) -> None:
        while True:
            found = await connection.execute("select * from after_hours.ticker_claim(%s)", (self._node,))
            for run_id, job, command in await found.fetchall():
                await self._run(connection, run_id, job, command)
            await asyncio.sleep(BEAT_SECONDS)

    async def _run(self, connection: Connection, run_id: int, job: str, command: str) -> None:
        """One job, in a connection of its own: this one reports meanwhile that the ticker is alive."""

        async def call() -> None:
            async with await self._connect() as other:
                await other.execute(command.encode())

        log.info("job started", extra={"job": job})
        task = asyncio.create_task(call())
        try:
            while not (await asyncio.wait({task}, timeout=BEAT_SECONDS))[0]:
                await connection.execute("select after_hours.ticker_beat(%s)", (self._node,))
        finally:
            task.cancel()
        error = task.exception()
        message = None if error is None else str(error).strip()
        await connection.execute("select after_hours.ticker_finish(%s, %s, %s)", (self._node, run_id, message))
        log.info("job ended", extra={"job": job, "error": message})


@click.command()
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
def tick(log_level: str) -> None:
    """Run the jobs on a server without pg_cron (after-hours migrate --ticker), until SIGTERM.

    The database is named by AFTER_HOURS_DSN, as role after_hours_jobs. Run two, on two machines: they never do the same
    twice, and one goes on when the other is gone. What they do: after_hours.jobs, after_hours.job_runs.
    """
    configure(log_level)
    try:
        dsn = prepare_dsn(os.environ.get("AFTER_HOURS_DSN", ""))
        with psycopg.connect(dsn, fallback_application_name="after-hours-tick") as connection:
            connection.execute("select after_hours.is_ticker()")
    except DsnError as error:
        raise NoConnection(f"AFTER_HOURS_DSN: {error}") from None
    except psycopg.Error as error:
        raise NoConnection(str(error)) from None

    async def run() -> None:
        ticker = Ticker(dsn, f"{socket.gethostname()}:{os.getpid()}")
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ticker.stop)
        await ticker.run()

    asyncio.run(run())
