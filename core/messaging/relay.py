"""Devices that are connected to another worker, or nowhere: how they hear of what was committed for them (section 5).

Theory of operation. Rows travel over the bus, once. Whoever cannot be reached that way goes into `_owed`, one entry a device, and a single
task works it off: look whether the device is here by now, else where it is, ring there, else make its push due in the store. An entry is a
duty to look, not a message: any number of rows of a device are one entry, and what is lost here is found by the sweep.

An interruption of the bus, a dead peer or a stall of our own means that somebody may have told us something we did not hear: then all
devices that are here are looked into, those whose mailboxes hold anything are rung.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from veredus.core import faults
from veredus.core.errors import StoreUnavailable
from veredus.core.messaging.context import Context
from veredus.core.messaging.routing import Routing
from veredus.core.model import Item, ItemKind, Location, Row
from veredus.core.ports import Bus, Presence, Wakeups

MOST_HOPS = 2  # an item is passed on twice at most; then its device is somewhere else for every look, and the sweep has to see
MOST_OWED = 100_000  # devices; beyond it the sweep finds them (counted)
PROBE_DEVICES = 500  # 1.4 ms of PostgreSQL a statement (measured)
LOOK_DEVICES = 500  # located with one read
RETRY_SECONDS = 0.5
SWEEP_SECONDS = 30.0  # rows are found when they are 30 to 90 s old, at least once within 60 s
UNACKNOWLEDGED_SECONDS = 20.0  # a connected device that does not answer for so long may be asleep

_log = logging.getLogger(__name__)


class Relay:
    """One worker's duty towards devices that are not here. `ports.BusEvents` to the bus."""

    def __init__(self, worker: str, bus: Bus, presence: Presence, wakeups: Wakeups, routing: Routing, context: Context) -> None:
        self._worker = worker
        self._bus = bus
        self._presence = presence
        self._wakeups = wakeups
        self.routing = routing
        self._context = context
        self._owed: dict[int, tuple[int, int]] = {}  # device → (newest row known, hops)
        self._replaced: set[int] = set()
        self._woken: set[int] = set()
        self._looking: set[int] = set()  # of those owed, being looked for now
        self._adrift: dict[int, tuple[int, int]] = {}  # not found while presence could not say
        self._probing = False
        self._unsure = False  # until every device here was probed
        self.among_others = False  # other workers were seen
        self._work = asyncio.Event()

    # ------------------------------------------------------------------------------------------------------------------- outwards

    async def carry(self, items: Sequence[Item], located: Mapping[int, Location]) -> None:
        """Bring items to the workers that hold their devices; whoever was nowhere is looked for again, now that the rows are committed."""
        by_worker: dict[str, list[Item]] = {}
        for item in items:
            location = located.get(item.device)
            # Whoever is owed a look has something older coming: a row must not overtake it.
            if location is None or location.worker == self._worker or self._owes(item.device):
                self.owe(item.device, item.id, item.hops)
            else:
                by_worker.setdefault(location.worker, []).append(item)
        if by_worker:
            self._context.counters.carried += sum(len(every) for every in by_worker.values())
            self.among_others = True
            for worker in await self._bus.publish(by_worker):
                for item in by_worker[worker]:
                    self.owe(item.device, item.id, item.hops)

    def _owes(self, device: int) -> bool:
        return device in self._owed or device in self._looking or device in self._adrift

    def owe(self, device: int, row_id: int, hops: int = 0) -> None:
        """Look for this device soon: it has something up to this row that nobody has brought it."""
        known = self._owed.get(device)
        if known is None and len(self._owed) >= MOST_OWED:
            self._context.counters.owed_dropped += 1
            return
        self._owed[device] = (row_id, hops) if known is None else (max(row_id, known[0]), max(hops, known[1]))
        self._work.set()

    def owe_all(self, devices: Iterable[int]) -> None:
        """The same for devices of which no row is named."""
        for device in devices:
            self.owe(device, 0)

    def woke(self, device: int) -> None:
        """A device connected here and is sent what is stored: it needs no push."""
        self._woken.add(device)
        self._work.set()

    async def displaced(self, locations: Mapping[int, Location | None]) -> None:
        """These devices were claimed here: tell the workers that held them."""
        items: dict[str, list[Item]] = {}
        for device, location in locations.items():
            if location is not None and location.worker != self._worker:
                items.setdefault(location.worker, []).append(Item(ItemKind.REPLACED, device))
        if items:
            await self._bus.publish(items)

    # -------------------------------------------------------------------------------------------------------------- ports.BusEvents

    def received(self, items: Sequence[Item]) -> None:
        """Items of other workers. What cannot be delivered here is owned here."""
        self.among_others = True
        for item in items:
            if item.kind == ItemKind.REPLACED:
                self._replaced.add(item.device)
                self._work.set()
            elif item.kind == ItemKind.EPHEMERAL:
                self.routing.push_ephemeral(item.device, item.envelope, item.server_timestamp)
            elif not self._bring(item):
                self._context.counters.passed_on += 1
                if item.hops < MOST_HOPS:
                    self.owe(item.device, item.id, item.hops + 1)

    def interrupted(self) -> None:
        """Something may have been lost on its way here."""
        self._context.counters.interruptions += 1
        self._probing = self._unsure = self.among_others = True
        self._work.set()

    def _bring(self, item: Item) -> bool:
        if item.device not in self.routing:
            return False
        # What was lost before this row is found by the probe or the claim's look; the row must not overtake it.
        if item.kind == ItemKind.ROW and not self._unsure and not self.routing.unsure(item.device):
            self.routing.push(item.device, Row(item.id, item.guid, item.server_timestamp, item.envelope))
        else:
            self.routing.ring([item.device])
        return True

    # ----------------------------------------------------------------------------------------------------------------------- tasks

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve())
            group.create_task(self._every(RETRY_SECONDS, self._look_again))
            group.create_task(self._every(SWEEP_SECONDS, self._sweep))
            group.create_task(self._every(UNACKNOWLEDGED_SECONDS, self._look_at_silent))

    async def _serve(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._turn()
            except Exception as error:
                if not isinstance(error, StoreUnavailable):
                    _log.error("looking for devices failed: %s", faults.describe(error))
                await asyncio.sleep(RETRY_SECONDS)
                self._work.set()

    async def _turn(self) -> None:
        if self._probing:
            self._probing = False
            try:
                await self._probe()
            except BaseException:
                self._probing = True
                raise
            self._unsure = self._probing  # again, when interrupted meanwhile
        if self._replaced:
            await self._give_way()
        if self._woken:
            woken = set(self._woken)
            await self._wakeups.awake(sorted(woken))  # fails: they are told of again next time
            self._woken -= woken
        while self._owed:
            await self._look()

    async def _probe(self) -> None:
        devices = self.routing.devices()
        for start in range(0, len(devices), PROBE_DEVICES):
            self.routing.ring(sorted(await self._wakeups.occupied(devices[start : start + PROBE_DEVICES])))

    async def _give_way(self) -> None:
        """Told that devices connected elsewhere: theirs may have come back here meanwhile, so presence has the word."""
        devices, self._replaced = list(self._replaced), set()
        located = await self._presence.locate(devices)
        self.routing.superseded([device for device, location in located.items() if location.worker != self._worker])

    async def _look(self) -> None:
        """Ring some of those owed a look, wherever they are; make the push due of those who are nowhere."""
        owed = {device: self._owed.pop(device) for device in list(self._owed)[:LOOK_DEVICES]}
        self._looking = set(owed)
        try:
            here = [device for device in owed if device in self.routing]
            self.routing.ring(here)
            away = [device for device in owed if device not in self.routing]
            located = await self._presence.locate(away) if away else {}
            nowhere = await self._ring_elsewhere({device: owed[device] for device in away}, located)
            if nowhere:
                self._context.counters.absent_targets += len(nowhere)
                await self._wakeups.due(nowhere)
                if not self._presence.settled:
                    self._adrift.update({device: owed[device] for device in nowhere})
        except BaseException:
            for device, (row_id, hops) in owed.items():
                self.owe(device, row_id, hops)
            raise
        finally:
            self._looking = set()

    async def _look_again(self) -> None:
        """Presence can say again where they are whom it could not find: they may have been somewhere all the time."""
        if self._adrift and self._presence.settled:
            adrift, self._adrift = self._adrift, {}
            for device, (row_id, hops) in adrift.items():
                self.owe(device, row_id, hops)

    async def _ring_elsewhere(self, owed: Mapping[int, tuple[int, int]], located: Mapping[int, Location]) -> dict[int, int]:
        """Doorbells over the bus. Returns the devices that are nowhere, with their newest row."""
        by_worker: dict[str, list[Item]] = {}
        nowhere: dict[int, int] = {}
        for device, (row_id, hops) in owed.items():
            location = located.get(device)
            if location is None or location.worker == self._worker:
                nowhere[device] = row_id
            else:
                by_worker.setdefault(location.worker, []).append(Item(ItemKind.DOORBELL, device, row_id, hops=hops))
        gone = await self._bus.publish(by_worker) if by_worker else set()
        for worker in gone:
            nowhere.update({item.device: item.id for item in by_worker[worker]})
        return nowhere

    async def _sweep(self) -> None:
        """Whoever has waited too long: once more, wherever he is (section 5f). One worker at a time is given any."""
        overdue = await self._wakeups.overdue(SWEEP_SECONDS)
        for device, row_id in overdue:
            self.owe(device, row_id)
        online = await self._presence.locate([device for device, _ in overdue]) if overdue else {}
        self._context.counters.swept += len(online)

    async def _look_at_silent(self) -> None:
        """Devices that are here and do not acknowledge: perhaps a push wakes them."""
        silent = self.routing.silent()
        if silent:
            await self._wakeups.due(silent)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except StoreUnavailable:
                continue
            except Exception as error:
                _log.error("periodic work failed: %s", faults.describe(error))
