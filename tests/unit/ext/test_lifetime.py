"""Parsed objects own what they hold: the memory they came from may change, and they go when nobody holds them."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

import pytest

from tests.fuzz import samples
from veredus.ext.envelope import parse_client_frame
from veredus.ext.frames import FrameWriter, encode_ack, encode_send, parse_envelope, parse_server_frame

ME = bytes(range(100, 116))


def snapshot(item: object) -> object:
    """Every value below an object of ours."""
    if isinstance(item, bytes | str | int | None):
        return item
    if isinstance(item, list | tuple):
        return [snapshot(each) for each in item]
    return {name: snapshot(getattr(item, name)) for name in dir(item) if not name.startswith("_") and not callable(getattr(item, name))}


def parse_client(data: bytes) -> object:
    return parse_client_frame(data, ME, 2, 1000, 16)


INPUTS = [
    *[pytest.param(parse_client, data, id=name) for name, data in samples.client_frames().items() if data],
    *[pytest.param(parse_server_frame, data, id=name) for name, data in samples.server_frames().items()],
    *[pytest.param(parse_envelope, data, id=name) for name, data in samples.envelopes().items()],
]


@pytest.mark.parametrize(("parse", "data"), INPUTS)
def test_overwriting_the_input_changes_nothing_that_was_parsed(parse: Callable[[bytes], object], data: bytes) -> None:
    source = bytes(bytearray(data))  # an object of its own, to be spoilt
    parsed = parse(source)
    before = snapshot(parsed)
    head = sys.getsizeof(b"") - 1  # of a bytes object, in front of its bytes
    ctypes.memset(id(source) + head, 0xA5, len(source))
    assert source == b"\xa5" * len(data)
    assert snapshot(parsed) == before


@pytest.mark.parametrize(("parse", "data"), INPUTS)
def test_a_hundred_thousand_parses_leave_nothing_behind(parse: Callable[[bytes], object], data: bytes) -> None:
    bad = data + b"\x00"

    def run(times: int) -> int:
        for _ in range(times):
            parse(data)
            parse(bad)
        gc.collect()
        return sys.getallocatedblocks()

    references = sys.getrefcount(ME), sys.getrefcount(data)
    before = run(1000)  # fills free lists and the pool of guids
    after = run(50_000)
    assert after - before < 50
    assert (sys.getrefcount(ME), sys.getrefcount(data)) == references


def test_writing_frames_leaves_nothing_behind() -> None:
    def run(times: int) -> int:
        for _ in range(times):
            writer = FrameWriter()
            writer.put_delivery(1, data, 5)
            writer.put_error(1, "é" * 300, 0)
            writer.put_sent(ME, ME, 5, True)
            with pytest.raises(OverflowError):
                writer.put_drained(2**64)
            writer.take()
            encode_send(ME, ME, 1, 2, True, True, [(1, 2, data), (3, 4, data)])
            encode_ack([1, 300], [ME], 5)
        gc.collect()
        return sys.getallocatedblocks()

    data = bytes(300)
    before = run(100)
    assert run(5000) - before < 50
