"""Follows a storm while it rages: the clients' history files as they grow, and the memory of workers. Reads only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.chaos.storm_ground import Place
from tests.chaos.storm_report import resident_bytes
from tests.checker.history import AnyEvent, Deliver, Device, Send, Sent


class Follower:
    """What is under way, from the files of several clients. `look` reads what came since the last time."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._read = dict.fromkeys(files, 0)
        self._decode = msgspec.json.Decoder(AnyEvent).decode
        self._sends: dict[tuple[str, bytes], Send] = {}
        self._device: dict[str, Device] = {}
        self._expected: dict[Device, set[bytes]] = defaultdict(set)
        self._got: dict[Device, set[bytes]] = defaultdict(set)
        self.sent = 0
        self.received = 0

    def look(self) -> None:
        for file, offset in self._read.items():
            with file.open("rb") as lines:
                lines.seek(offset)
                whole, _, _ = lines.read().rpartition(b"\n")
            if whole:
                self._read[file] = offset + len(whole) + 1
                for line in whole.split(b"\n"):
                    self._take(self._decode(line))

    def missing(self) -> int:
        """Messages answered with SENT that a device has not got."""
        return sum(len(guids - self._got[device]) for device, guids in self._expected.items())

    def _take(self, event: AnyEvent) -> None:
        match event:
            case Send():
                self._sends[event.connection, event.client_id] = event
            case Sent():
                self.sent += 1
                send = self._sends.pop((event.connection, event.client_id), None)
                for number, _ in send.contents if send else ():
                    assert send is not None
                    self._expected[Device(send.destination, number)].add(event.guid)
            case Deliver():
                self.received += 1
                if event.destination is not None:
                    self._got[event.destination].add(event.guid)


class Memory:
    """The most that any worker had, and which."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.most = 0
        self.last: dict[str, int] = {}

    def look(self) -> None:
        self.last = {f"{node.name}.{index}": resident_bytes(pid) for node in self._place.nodes for index, pid in sorted(node.pids.items())}
        self.most = max([self.most, *self.last.values()])
