"""One generator process: `python -m veredus.bench.load.generator`, driven by lines on standard input (see `plan`).

Owns the loop, the figures and the conversation with the leading process. What devices do is the scenes'.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Awaitable

import msgspec
import uvloop

from veredus.bench.load.connecting import Crowd
from veredus.bench.load.plan import Figures, Order
from veredus.bench.load.scenes import make
from veredus.ext.generator import Run

FILLER_BYTES = 1 << 20
PROGRESS_SECONDS = 0.25
SEALED, CIPHERTEXT = 6, 1  # veredus.v1.Envelope.Type


class Meter:
    """What was counted between `begin` and `end`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._begun = self._read()

    def _read(self) -> tuple[int, int, int, float]:
        return self._run.accepted, self._run.delivered, time.monotonic_ns(), time.process_time()

    def begin(self) -> None:
        self._begun = self._read()
        self._run.recording = True

    def figures(self) -> Figures:
        """So far."""
        accepted, delivered, now, cpu = self._read()
        before = self._begun
        return Figures(
            accepted=accepted - before[0], delivered=delivered - before[1], seconds=(now - before[2]) / 1e9, cpu_seconds=cpu - before[3]
        )  # fmt: skip

    def end(self) -> Figures:
        self._run.recording = False
        figures = self.figures()
        sent, delivered = self._run.sent_latency, self._run.delivered_latency
        figures.sent_latency, figures.sent_slowest = sent.counts(), sent.largest
        figures.delivered_latency, figures.delivered_slowest = delivered.counts(), delivered.largest
        return figures


def say(kind: str, figures: Figures | None = None, text: str = "") -> None:
    report = {"kind": kind, "figures": figures or Figures(), "text": text}
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


class Conversation:
    """Lines of standard input, and progress in between."""

    def __init__(self, lines: asyncio.StreamReader, meter: Meter) -> None:
        self._lines = lines
        self._meter = meter
        self._late: asyncio.Future[None] | None = None

    async def wait(self, wanted: str) -> None:
        """Until the line comes. Raises EOFError when the leading process is gone."""
        if (await self._lines.readline()).decode().strip() != wanted:
            raise EOFError

    async def beside(self, work: Awaitable[None], wanted: str) -> None:
        """Until the work has ended or the line comes; say how far things are meanwhile. Raises as `wait`, and whatever the work raises."""
        working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(self.wait(wanted))
        while not (await asyncio.wait({working, waiting}, timeout=PROGRESS_SECONDS, return_when=asyncio.FIRST_COMPLETED))[0]:
            say("progress", self._meter.figures())
        if working.done():
            working.result()
            self._late = waiting
        else:
            working.cancel()
            waiting.result()

    async def caught_up(self) -> None:
        """The line that `beside` did not wait for."""
        if self._late is not None:
            await self._late


async def play(order: Order, lines: asyncio.StreamReader) -> None:
    """The whole life of a generator."""
    clock = time.monotonic_ns
    kind = SEALED if order.plan.workload == "sealed" else CIPHERTEXT
    run = Run(clock, os.urandom(FILLER_BYTES), order.nonce, kind, order.plan.payload)
    crowd = Crowd(order, clock)
    scene, meter = make(order, run, crowd, clock), Meter(run)
    await scene.prepare()
    gc.collect()
    gc.freeze()
    talk = Conversation(lines, meter)
    say("ready", Figures(sent_latency=crowd.latency.counts(), sent_slowest=crowd.latency.largest))
    await talk.wait("start")
    await scene.start()
    say("started")
    await talk.wait("begin")
    meter.begin()
    say("begun")
    await talk.beside(scene.work(), "end")
    say("ended", meter.end())
    await talk.caught_up()
    await talk.wait("finish")
    say("done", await scene.finish())


async def main() -> None:
    lines = asyncio.StreamReader(limit=1 << 28)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    order = msgspec.json.decode(await lines.readline(), type=Order)
    try:
        await play(order, lines)
    except EOFError:
        pass
    except Exception as error:
        say("failed", text=f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
