"""Frames can be read by a WebSocket library; invalid messages are refused."""

from __future__ import annotations

import json

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from relay import frames, protocol


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_a_text_of_every_length_form_is_read_back(size: int) -> None:
    reader = StreamReader()
    reader.feed_data(frames.text_frame("x" * size))
    parsing = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    assert (done.value.value.opcode, len(done.value.value.data), done.value.value.fin) == (Opcode.TEXT, size, True)
    assert frames.payload(frames.text_frame("x" * size)) == b"x" * size


def test_a_text_is_encoded_as_utf8() -> None:
    assert frames.payload(frames.text_frame("ä€😀")) == "ä€😀".encode()


def test_snapshot_is_spliced_into_finished_json() -> None:
    text = frames.payload(protocol.snapshot("hello", 'n"1', 0.0, '{"start":"fresh","sessions":[]}'))
    assert json.loads(text) == {
        "type": "hello", "node": 'n"1', "tokenExpiresAt": "1970-01-01T00:00:00.000Z", "start": "fresh", "sessions": [],
    }  # fmt: skip


@pytest.mark.parametrize("message", [
    {"bytes": b"{}"}, {"text": ""}, {"text": "x"}, {"text": "[]"}, {"text": "1"}, {"text": "{}"}, {"text": "[" * 4000},
    {"text": '{"type":1}'}, {"text": '{"type":null}'},
])  # fmt: skip
def test_invalid_messages_are_refused(message: dict[str, object]) -> None:
    with pytest.raises(protocol.BadFrame):
        protocol.parse(message)


def test_unknown_types_and_fields_are_accepted() -> None:
    assert protocol.parse({"text": '{"type":"later","x":1}'}) == {"type": "later", "x": 1}
