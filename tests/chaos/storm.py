"""`make chaos DURATION=600 SEED=n`: mixed load from real client processes on two nodes, everything failing at random, and the verdict.

`python -m tests.chaos.storm --duration 60 --seed 1`. Exits with 1 when a promise was broken. docs/chaos.md says how to read it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.storm_clients import Clients, Order
from tests.chaos.storm_faults import KINDS, Planned, Scene, schedule
from tests.chaos.storm_ground import Place, place
from tests.chaos.storm_report import HEADING, Distribution, Happened, WakeUps, distributions
from tests.chaos.storm_watch import Follower, Memory
from tests.checker.check import Violation, check
from tests.checker.history import History, Quiescent
from tests.checker.workload import Mix, Workload
from tests.stores import temporary_folder
from veredus.client import Credentials

QUIET_SECONDS = 60.0  # P5, of any combination
MIX = Mix(drain_seconds=30.0)


@dataclass(frozen=True)
class Options:
    """A storm. The same one rages again from the same numbers, but for what the machine makes of it."""

    duration: float = 600.0
    seed: int = 0
    accounts: int = 6
    devices: int = 2  # of each
    processes: int = 2
    pause: float = 0.15  # mean seconds between two bursts of a device
    calm: float = 6.0
    together: float = 0.25
    memory_mb: int = 256
    hang_seconds: tuple[float, float] = (15.0, 90.0)  # the product's; and so long that a worker returns whose lease has died
    names: tuple[str, ...] = ()  # these faults alone
    keep: Path | None = None  # a new folder for the histories and logs, to look into afterwards


@dataclass
class Outcome:
    """What came of it."""

    faults: list[Happened] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # what is wrong beside the history: a fault that did not heal, memory, processes
    violations: list[Violation] = field(default_factory=list)
    wake_ups: dict[str, Distribution] = field(default_factory=dict)
    sent: int = 0
    received: int = 0
    held: int = 0
    memory: int = 0

    @property
    def kept(self) -> bool:
        return not self.violations and not self.broken and not self.held

    def __str__(self) -> str:
        lines = [f"{self.sent} sent, {self.received} received, {self.held} held at the end", HEADING]
        lines += [f"{name:36} {distribution}" for name, distribution in self.wake_ups.items()]
        lines.append(f"most memory of a worker: {self.memory / 1e6:.0f} MB")
        lines += [f"BROKEN: {line}" for line in self.broken]
        lines += [f"BROKEN: {violation}" for violation in self.violations[:20]]
        lines.append("every promise was kept" if self.kept else f"{len(self.violations) + len(self.broken)} promises were broken")
        return "\n".join(lines)


class Storm:
    """One storm over a place."""

    def __init__(self, options: Options, place: Place, clients: list[Clients], devices: list[Credentials], folder: Path) -> None:
        self._options = options
        self._place = place
        self._clients = clients
        self._devices = devices
        self._own = folder / "own.jsonl"
        self._follower = Follower([each.history for each in clients])
        self._memory = Memory(place)
        self._begin = time.monotonic()
        self._now: list[str] = []
        self.outcome = Outcome()

    async def rage(self, plan: list[Planned]) -> Outcome:
        """Let every fault strike at its time, then wait for quiet and judge."""
        drawing = asyncio.create_task(self._draw())
        try:
            async with asyncio.TaskGroup() as group:
                for planned in plan:
                    group.create_task(self._strike(planned))
                group.create_task(asyncio.sleep(self._options.duration))
            await self._quieten()
        finally:
            drawing.cancel()
        await self._judge()
        return self.outcome

    async def _strike(self, planned: Planned) -> None:
        await asyncio.sleep(max(0.0, planned.at - (time.monotonic() - self._begin)))
        scene = Scene(self._place, self._clients, random.Random(planned.seed), planned.seconds)
        self._now.append(planned.name)
        begin = time.monotonic_ns()
        try:
            async with asyncio.timeout(planned.seconds + 90):
                await KINDS[planned.name].strike(scene)
        except Exception as error:  # a fault that cannot be made or healed is told, and does not end the others
            self.outcome.broken.append(f"{planned.name} at {planned.at} s: {type(error).__name__}: {error}")
        self.outcome.faults.append(Happened(planned.name, begin, time.monotonic_ns()))
        self._now.remove(planned.name)

    async def _quieten(self) -> None:
        """No more faults: everything that was answered reaches whom it is for."""
        history = History(self._own)
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await asyncio.gather(*(clients.tell("stop") for clients in self._clients))
                self._follower.look()
                while self._follower.missing():
                    await asyncio.sleep(0.2)
                    self._follower.look()
                await asyncio.gather(*(clients.tell("rest") for clients in self._clients))
        except TimeoutError:
            self.outcome.broken.append(f"not quiet {QUIET_SECONDS:.0f} s after the last fault: {self._follower.missing()} have not come")
        history.record(Quiescent())
        history.close()
        with suppress(TimeoutError, AssertionError):
            await asyncio.gather(*(clients.tell("close") for clients in self._clients))
        for clients in self._clients:
            await clients.clear()

    async def _judge(self) -> None:
        after = self._own.with_name("after.jsonl")
        history = History(after)
        held = await Workload(self._place.url, self._devices, self._options.seed, MIX, history, name="after").drain()
        history.close()
        events = History.read(self._own, after, *(clients.history for clients in self._clients))
        outcome = self.outcome
        outcome.violations = check(events, held)
        outcome.held = sum(map(len, held.values()))
        wake_ups = WakeUps()
        wake_ups.read(events)
        outcome.wake_ups = distributions(wake_ups.found, outcome.faults)
        outcome.sent, outcome.received, outcome.memory = self._follower.sent, self._follower.received, self._memory.most
        if outcome.memory > self._options.memory_mb * 1_000_000:
            outcome.broken.append(f"a worker took {outcome.memory / 1e6:.0f} MB of {self._options.memory_mb}")
        outcome.broken += [f"supervisor {node.name} ended by itself {node.unasked} times" for node in self._place.nodes if node.unasked]
        late = {name: each.late for name, each in outcome.wake_ups.items() if each.late and name in ("none", "single")}
        outcome.broken += [f"{count} wake-ups took more than 5 s ({name})" for name, count in late.items()]

    async def _draw(self) -> None:
        """The progress, on one line of a terminal or a line every ten seconds."""
        terminal, shown = sys.stdout.isatty(), 0.0
        while True:
            self._memory.look()
            self._follower.look()
            passed = time.monotonic() - self._begin
            if terminal or passed - shown >= 10:
                shown = passed
                memory = " ".join(f"{value / 1e6:.0f}" for value in self._memory.last.values())
                line = (
                    f"{passed:4.0f} s  {self._follower.sent} sent  {self._follower.received} received  {self._follower.missing()} on their"
                    f" way  {len(self.outcome.faults)} faults  {memory} MB  {', '.join(self._now)}"
                )
                print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", flush=True)
            await asyncio.sleep(1.0)


@asynccontextmanager
async def prepared(options: Options, folder: Path) -> AsyncIterator[Storm]:
    """Stores, nodes and clients, all running; all gone afterwards."""
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(place(folder, options.seed, options.hang_seconds))
        devices = await here.nodes[0].ground.accounts(options.accounts, options.devices)
        told = [(each.account, each.device, each.password) for each in devices]
        share = len(devices) // options.processes
        clients = []
        for number in range(options.processes):
            file = folder / f"clients{number}.jsonl"
            order = Order(here.url, told, number * share, (number + 1) * share, options.pause, str(options.seed), str(file))
            started = await Clients.start(order)
            clients.append(started)
            stack.push_async_callback(started.clear)
        yield Storm(options, here, clients, devices, folder)


async def storm(options: Options, plan: list[Planned]) -> Outcome:
    """A whole storm in a folder of its own."""
    with temporary_folder() as folder:
        async with prepared(options, folder) as ready:
            try:
                return await ready.rage(plan)
            finally:
                if options.keep is not None:
                    shutil.copytree(folder, options.keep, ignore=shutil.ignore_patterns("data", "*.sock", ".s.*", "secret"))


async def _main(options: Options) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    plan = schedule(options.seed, options.duration, options.names, options.calm, options.together)
    print(f"seed {options.seed}, {options.duration:.0f} s, {len(plan)} faults:")
    for planned in plan:
        print(f"  {planned.at:6.1f} s  {planned.name}" + (f", {planned.seconds} s" if planned.seconds else ""), flush=True)
    outcome = await storm(options, plan)
    print(f"\n{outcome}\nagain: make chaos DURATION={options.duration:.0f} SEED={options.seed}")
    return 0 if outcome.kept else 1


def main() -> int:
    import uvloop

    parser = argparse.ArgumentParser(prog="python -m tests.chaos.storm")
    parser.add_argument("--duration", type=float, default=600.0, help="seconds of faults")
    parser.add_argument("--seed", type=int, default=None, help="left out: a new one")
    parser.add_argument("--only", action="append", choices=list(KINDS), default=[], help="this fault; may be repeated")
    parser.add_argument("--alone", action="store_true", help="never two faults at once")
    parser.add_argument("--memory-mb", type=int, default=Options.memory_mb)
    parser.add_argument("--keep", type=Path, default=None, help="a new folder for the histories and logs")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10_000) if given.seed is None else given.seed
    together = 0.0 if given.alone else Options.together
    options = Options(
        duration=given.duration, seed=seed, memory_mb=given.memory_mb, together=together, names=tuple(given.only), keep=given.keep
    )  # fmt: skip
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_main(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\nbroken off: everything was ended, nothing was judged")
        return 130


if __name__ == "__main__":
    sys.exit(main())
