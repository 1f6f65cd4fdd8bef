"""The bus on the wire: names of channels, frames and heartbeats. Pure; reads what strangers may have written.

A frame is msgpack `[source, incarnation, number, items]`, a heartbeat `[source, incarnation, {destination: last number}, leaving]`. Names
and numbers are bounded, so that nothing that passes here can harm who reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec

from veredus.core.model import Item, ItemKind
from veredus.server.cluster.bus_counters import BusCounters
from veredus.server.cluster.bus_timing import BusTiming

ITEM_BYTES = 64  # at most, of an item beside its envelope: five numbers of 9 bytes, a GUID of 18
HEAD_BYTES = 8192  # of a frame beside its items, at most: two names in UTF-8, a number

# What reading a stranger's bytes may raise. msgspec does not wrap the error of text that is no UTF-8, nor that of a nest too deep.
MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # what a bigint holds


class Line(Item, frozen=True, gc=False, array_like=True):
    """An item as it came: of the right shape, whoever wrote it."""

    kind: ItemKind
    device: Natural
    id: Natural = 0
    guid: Annotated[bytes, msgspec.Meta(max_length=16)] = b""
    server_timestamp: Natural = 0
    envelope: bytes = b""
    hops: Natural = 0


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """Items for one worker. `number` counts the frames of this source for this destination, from 1."""

    source: Name
    incarnation: Name
    number: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    items: list[Line]


class Heartbeat(msgspec.Struct, frozen=True, array_like=True):
    """That a source lives, and the last number it gave to each destination. `leaving`: it goes in order, and this is its last word."""

    source: Name
    incarnation: Name
    last: dict[Name, Natural]
    leaving: bool = False


class Channels:
    """Names of channels. `namespace` keeps apart what shares a Redis: Pub/Sub knows no database numbers."""

    def __init__(self, namespace: str) -> None:
        self._prefix = f"{namespace}:bus:"
        self.heartbeats = f"{namespace}:heartbeats"

    def of(self, worker: str) -> str:
        """Where a worker listens for its items."""
        return self._prefix + worker


def doorbell(item: Item) -> Item:
    """What is left of an item when its row must be read from the store."""
    return Item(ItemKind.DOORBELL, item.device, item.id, hops=item.hops)


def parcels(items: Sequence[Item], timing: BusTiming, counters: BusCounters) -> Iterator[list[Item]]:
    """The same items in the same order, as many to a frame as fit; those with large envelopes as doorbells."""
    most = timing.envelope_bytes
    full = timing.frame_bytes - HEAD_BYTES
    parcel: list[Item] = []
    room = full
    for item in items:
        size = len(item.envelope)
        if size > most:
            counters.large_items += 1
            item, size = doorbell(item), 0
        room -= size + ITEM_BYTES
        if room < 0 and parcel:
            yield parcel
            parcel, room = [], full - size - ITEM_BYTES
        parcel.append(item)
    if parcel:
        yield parcel
