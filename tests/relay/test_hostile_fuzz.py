"""Random bytes from clients: no exception escapes, no socket, task or timer is left, and memory does not grow."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.websocket.kinds import KINDS
from tests.relay.raw_client import PING, TEXT, close, frame, handshake, layer, raw

if TYPE_CHECKING:
    from tests.relay.raw_client import Layer

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))

FRAMES = st.builds(
    frame,
    st.integers(0, 15),
    st.binary(max_size=200) | st.text(max_size=60).map(str.encode),
    fin=st.booleans() | st.just(True),
    rsv=st.sampled_from([0] * 20 + [1, 2, 4]),
    mask=st.sampled_from([b"\0\0\0\0", b"\xff\x00\xaa\x55", b"\x01\x02\x03\x04", None]) | st.just(b"abcd"),
    form=st.sampled_from([0] * 10 + [7, 16, 64]),
)
SOUND = st.sampled_from(
    [frame(TEXT, b"{}"), frame(PING, b"x"), frame(TEXT, b"a", fin=False), frame(0, b"b"), close(1000)]
)
PIECES = st.lists(st.one_of(SOUND, SOUND, FRAMES, st.binary(max_size=40)), max_size=12)
HEADS = st.one_of(
    st.just(handshake()),
    st.binary(max_size=300),
    st.tuples(st.integers(0, 170), st.binary(min_size=1, max_size=4)).map(
        lambda at: handshake()[: at[0]] + at[1] + handshake()[at[0] :]
    ),
)


async def throw(one: Layer, opening: bytes, pieces: list[bytes], *, cut: bool) -> None:
    """One client: an opening, frames in pieces, then an abort or waiting until the server closes."""
    async with raw(one.port) as client:
        for piece in [opening, *pieces]:
            await client.send(piece)
            await asyncio.sleep(0)
        if cut:
            client.writer.transport.abort()
            return
        with suppress(OSError):
            client.writer.write_eof()
        async with asyncio.timeout(8):
            with suppress(OSError):
                while await client.reader.read(65536):
                    pass


def resident() -> int:
    """Resident memory of this process, KiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def everything(kind: str, heads: bool, examples: int) -> tuple[list[Any], int]:
    """Many clients on one socket layer; what asyncio's exception handler got, and KiB gained by the second half."""
    told: list[Any] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: told.append(context))
        context = layer(kind)
        one = runner.run(context.__aenter__())
        half = [0]

        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(HEADS if heads else st.just(handshake()), PIECES, st.booleans())
        def run(opening: bytes, pieces: list[bytes], cut: bool) -> None:
            runner.run(throw(one, opening, pieces, cut=cut))

        run()
        descriptors = len(os.listdir("/proc/self/fd"))
        half[0] = resident()
        run()
        gained = resident() - half[0]
        runner.run(context.__aexit__(None, None, None))  # waits until no connection and no task is left
        assert len(os.listdir("/proc/self/fd")) <= descriptors
    return told, gained


@pytest.mark.parametrize("heads", [False, True], ids=["frames", "heads too"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_any_bytes_leave_no_exception_task_or_memory_behind(
    kind: str, heads: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    told, gained = everything(kind, heads, EXAMPLES)
    assert not told
    assert not [record for record in caplog.records if record.name.startswith("relay")]
    assert gained < 4096
