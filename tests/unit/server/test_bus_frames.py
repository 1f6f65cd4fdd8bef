"""Frames of the bus: bounded, in order, and read with suspicion."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veredus.core.model import Item, ItemKind
from veredus.server.cluster.bus_counters import BusCounters
from veredus.server.cluster.bus_frames import MALFORMED, Channels, Frame, Line, parcels
from veredus.server.cluster.bus_timing import BusTiming

SMALL = BusTiming(frame_bytes=20_000, envelope_bytes=1000)
LARGEST = 2**63 - 1


@given(st.lists(st.integers(0, 1200), max_size=60))
def test_parcels_keep_every_item_in_order_and_never_exceed_a_frame(sizes: list[int]) -> None:
    items = [Item(ItemKind.ROW, LARGEST, n, b"g" * 16, LARGEST, b"x" * size, 100) for n, size in enumerate(sizes)]
    counters = BusCounters()
    made = list(parcels(items, SMALL, counters))
    assert [item.id for parcel in made for item in parcel] == list(range(len(sizes)))
    assert all(len(msgspec.msgpack.encode(("é" * 512, "é" * 512, LARGEST, parcel))) <= SMALL.frame_bytes for parcel in made)
    assert counters.large_items == sum(size > SMALL.envelope_bytes for size in sizes)


def test_a_line_has_the_fields_of_an_item_in_their_order() -> None:
    assert Line.__struct_fields__ == Item.__struct_fields__


def test_a_frame_read_is_the_frame_written() -> None:
    item = Item(ItemKind.ROW, LARGEST, LARGEST, b"g" * 16, LARGEST, b"x", 2)
    frame = msgspec.msgpack.decode(msgspec.msgpack.encode(("a", "1", LARGEST, [item])), type=Frame)
    assert (frame.source, frame.incarnation, frame.number) == ("a", "1", LARGEST)
    assert [msgspec.structs.astuple(line) for line in frame.items] == [msgspec.structs.astuple(item)]


@given(st.binary(max_size=200))
def test_noise_is_refused_and_nothing_else(noise: bytes) -> None:
    with pytest.raises(MALFORMED):
        msgspec.msgpack.decode(noise, type=Frame)


def test_channels_of_namespaces_and_workers_are_apart() -> None:
    one, two = Channels("one"), Channels("two")
    assert len({one.of("a"), one.of("b"), two.of("a"), one.heartbeats, two.heartbeats, one.of("heartbeats")}) == 6
