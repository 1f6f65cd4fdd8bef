"""Leads a load test: starts the generators, tells them when, looks at the server in between, and puts the result together.

Owns the order of a test and what its result means. Never opens a connection to the server itself, and never imports it.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import asyncpg
import msgspec

from veredus.bench.load import observe
from veredus.bench.load.observe import Sample, Watched
from veredus.bench.load.plan import Account, Figures, Order, Plan, Report
from veredus.bench.load.profiling import profiled
from veredus.bench.load.result import Moment, Result, conclude, merged

LINE_BYTES = 1 << 24
PATIENCE_SECONDS = 600.0  # a generator that says nothing for so long is dead; filling a large backlog is silent

Draw = Callable[[str, Figures], None]


class LoadFailed(Exception):
    """The test could not be carried out. The text is one line."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The server under test."""

    url: str
    accounts: list[Account]
    ca: str | None = None
    watched: Watched = Watched()
    profile: Path | None = None  # where a profile of the workers goes


class _Generator:
    """A generator process, from outside."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.progress = Figures()

    @classmethod
    async def started(cls, order: Order) -> _Generator:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "veredus.bench.load.generator",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES,
        )  # fmt: skip
        generator = cls(process)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        return generator

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")

    async def hear(self, wanted: str) -> Figures:
        """Until it says so. Raises `LoadFailed` when it says something else, or nothing any more."""
        assert self._process.stdout is not None
        while True:
            async with asyncio.timeout(PATIENCE_SECONDS):
                line = await self._process.stdout.readline()
            if not line:
                raise LoadFailed("a generator ended before its time")
            report = msgspec.json.decode(line, type=Report)
            if report.kind == "progress":
                self.progress = report.figures
            elif report.kind == "failed":
                raise LoadFailed(f"a generator failed: {report.text}")
            elif report.kind == wanted:
                return report.figures

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


async def run(plan: Plan, target: Target, draw: Draw) -> Result:
    """Carry a test out. `draw` is called with the phase and how far it is. Raises `LoadFailed`."""
    generators: list[_Generator] = []
    connection = await asyncpg.connect(target.watched.dsn) if target.watched.dsn else None
    try:
        moments = [Moment("before", await observe.look(target.watched, connection))]
        generators += [await _Generator.started(order) for order in orders(plan, target)]
        test = _Test(plan, target, generators, connection, draw)
        return await test.play(moments)
    except TimeoutError:
        raise LoadFailed("a generator does not answer") from None
    finally:
        for generator in generators:
            await generator.end()
        if connection is not None:
            await connection.close()


class _Test:
    """The phases of one test."""

    def __init__(self, plan: Plan, target: Target, generators: list[_Generator], connection: asyncpg.Connection | None, draw: Draw) -> None:
        self._plan = plan
        self._target = target
        self._generators = generators
        self._connection = connection
        self._draw = draw

    async def play(self, moments: list[Moment]) -> Result:
        self._draw("connecting" if self._plan.workload != "drain" else "storing messages", Figures())
        await self._all("ready")
        moments.append(Moment("ready", await self._look()))
        await self._all("started", "start")
        if self._plan.workload in ("identified", "sealed"):
            self._draw("warming up", Figures())
            await asyncio.sleep(self._plan.warmup)
        moments.append(Moment("begin", await self._look()))
        await self._all("begun", "begin")
        async with self._profiling():
            ended = await self._measured()
            moments.append(Moment("end", await self._look()))
        self._draw("checking", Figures())
        done = await self._all("done", "finish")
        stored = await self._connection.fetchval("SELECT count(*) FROM mailbox") if self._connection is not None else None
        facts = {**observe.host(), **self._target.watched.settings, "postgres": await observe.settings(self._connection)}
        return conclude(self._plan, moments, (merged(ended), merged(done)), stored, facts)

    def _profiling(self) -> AbstractAsyncContextManager[None]:
        workers = self._target.watched.pids.get("workers", ())
        if self._target.profile is None or not workers:
            return nullcontext()
        return profiled(workers[0], self._plan.seconds, self._target.profile)

    async def _measured(self) -> list[Figures]:
        """Until the time is up, or the work is done."""
        hearing = asyncio.ensure_future(self._all("ended"))
        timed = self._plan.workload not in ("drain", "connect")
        until = time.monotonic() + self._plan.seconds
        while not hearing.done() and not (timed and time.monotonic() >= until):
            await asyncio.wait({hearing}, timeout=min(0.25, max(0.0, until - time.monotonic())) if timed else 0.25)
            self._draw("measuring", merged([generator.progress for generator in self._generators]))
        for generator in self._generators:
            generator.tell("end")
        return await hearing

    async def _all(self, wanted: str, word: str = "") -> list[Figures]:
        if word:
            for generator in self._generators:
                generator.tell(word)
        return list(await asyncio.gather(*[generator.hear(wanted) for generator in self._generators]))

    async def _look(self) -> Sample:
        return await observe.look(self._target.watched, self._connection)


def orders(plan: Plan, target: Target) -> list[Order]:
    """Each generator's share: whole pairs, so that each checks its own. Raises `LoadFailed` with too few accounts."""
    if len(target.accounts) < plan.accounts():
        raise LoadFailed(f"the plan takes {plan.accounts()} accounts, there are {len(target.accounts)}")
    number = max(1, min(plan.generators, plan.pairs, plan.connections))
    accounts, made = iter(target.accounts), []
    for index in range(number):
        share = msgspec.structs.replace(
            plan, pairs=_share(plan.pairs, index, number), connections=_share(plan.connections, index, number), rate=plan.rate / number
        )
        given = [next(accounts) for _ in range(share.accounts())]
        made.append(Order(plan=share, url=target.url, accounts=given, ca=target.ca, nonce=secrets.randbits(63)))
    return made


def _share(whole: int, index: int, number: int) -> int:
    return whole // number + (index < whole % number)
