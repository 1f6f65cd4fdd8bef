"""What a storm shows: how long messages took to wake devices, with and without faults, and the memory of workers. Judges no promise of
delivery; the checker does."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.checker.history import AnyEvent, Connect, Deliver, Device, Disconnect, Send, Sent

SECOND = 1_000_000_000
TAIL_SECONDS = 5.0  # P5: what a single failure may cost after it is over
CLIENT_FAULTS = {"clients stopped", "connections swallowed"}  # the server cannot reach these devices, whatever it does


class Happened(NamedTuple):
    """A fault that struck; ns of the monotonic clock."""

    name: str
    begin: int
    end: int


class WakeUp(NamedTuple):
    """A message for a device that was online when its SENT came: until it was delivered on that connection, or the connection ended."""

    device: Device
    sent: int
    seconds: float
    delivered: bool


@dataclass
class _Online:
    """A device's present connection, and what it waits for."""

    connection: str
    waiting: dict[bytes, int] = field(default_factory=dict)


class WakeUps:
    """Reads a history in order, once."""

    def __init__(self) -> None:
        self.found: list[WakeUp] = []
        self._online: dict[Device, _Online] = {}
        self._device: dict[str, Device] = {}
        self._sends: dict[tuple[str, bytes], Send] = {}
        self._delivered: set[tuple[Device, bytes]] = set()
        self._known: set[bytes] = set()

    def read(self, events: Iterable[AnyEvent]) -> None:
        for event in events:
            match event:
                case Connect():
                    self._leave(event.device, event.at)
                    self._device[event.connection] = event.device
                    self._online[event.device] = _Online(event.connection)
                case Disconnect():
                    device = self._device[event.connection]
                    if device in self._online and self._online[device].connection == event.connection:
                        self._leave(device, event.at)
                case Send():
                    self._sends[event.connection, event.client_id] = event
                case Sent():
                    self._sent(event)
                case Deliver():
                    self._deliver(event)

    def end(self, at: int) -> None:
        """The history is over: what has not come yet waited until now."""
        for device in list(self._online):
            self._leave(device, at)

    def _sent(self, event: Sent) -> None:
        send = self._sends.pop((event.connection, event.client_id), None)
        if send is None or event.guid in self._known:  # a repeat
            return
        self._known.add(event.guid)
        for number, _ in send.contents:
            device = Device(send.destination, number)
            online = self._online.get(device)
            if online is None:
                continue
            if (device, event.guid) in self._delivered:
                self.found.append(WakeUp(device, event.at, 0.0, True))
            else:
                online.waiting[event.guid] = event.at

    def _deliver(self, event: Deliver) -> None:
        device = self._device[event.connection]
        self._delivered.add((device, event.guid))
        online = self._online.get(device)
        if online is not None and (sent := online.waiting.pop(event.guid, None)) is not None:
            self.found.append(WakeUp(device, sent, (event.at - sent) / SECOND, True))

    def _leave(self, device: Device, at: int) -> None:
        online = self._online.pop(device, None)
        if online is not None:
            self.found += [WakeUp(device, sent, (at - sent) / SECOND, False) for sent in online.waiting.values()]


class Distribution(NamedTuple):
    """Wake-ups of one class, in seconds. `late` took more than five beyond the end of the fault; `left` ended with the connection."""

    number: int
    p50: float
    p99: float
    most: float
    late: int
    left: int

    def __str__(self) -> str:
        return f"{self.number:7} {self.p50 * 1000:9.1f} {self.p99 * 1000:9.1f} {self.most * 1000:9.1f} {self.late:6} {self.left:6}"


HEADING = f"{'':36} {'count':>7} {'p50 ms':>9} {'p99 ms':>9} {'max ms':>9} {'> 5 s':>6} {'left':>6}"


def distributions(found: Iterable[WakeUp], faults: list[Happened]) -> dict[str, Distribution]:
    """By what was wrong in a wake-up's window: `none`, `single: …`, or `several`. Faults of the clients' own side stand apart."""
    classes: dict[str, list[tuple[WakeUp, bool]]] = defaultdict(list)
    ordered = sorted(faults, key=lambda fault: fault.begin)
    begins = [fault.begin for fault in ordered]
    for wake in found:
        until = wake.sent + round(wake.seconds * SECOND)
        near = [fault for fault in ordered[: bisect_right(begins, until)] if fault.end + TAIL_SECONDS * SECOND > wake.sent]
        settled = max([wake.sent, *(fault.end for fault in near)])
        late = (until - settled) / SECOND > TAIL_SECONDS
        for name in _classes(near):
            classes[name].append((wake, late))
    return {name: _distribution(wakes) for name, wakes in sorted(classes.items())}


def _classes(near: list[Happened]) -> tuple[str, ...]:
    names = {fault.name for fault in near}
    if not names:
        return ("none",)
    if names & CLIENT_FAULTS:
        return ("the clients' own",)
    return ("single", f"single: {near[0].name}") if len(near) == 1 else ("several",)


def _distribution(wakes: list[tuple[WakeUp, bool]]) -> Distribution:
    seconds = sorted(wake.seconds for wake, _ in wakes)
    return Distribution(
        len(seconds), _at(seconds, 0.5), _at(seconds, 0.99), seconds[-1], sum(late for _, late in wakes),
        sum(not wake.delivered for wake, _ in wakes),
    )  # fmt: skip


def _at(seconds: list[float], share: float) -> float:
    return seconds[min(len(seconds) - 1, int(len(seconds) * share))]


def resident_bytes(pid: int) -> int:
    """A process' memory now; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)
