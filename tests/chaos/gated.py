"""A worker that stops for good at a named step: `python -m tests.chaos.gated CONFIG GATE PASSES`.

The gates are put around methods of the product from outside, by name; the product has none. Prints `serving`, and `reached` when the gate
is; from then on the whole process stands still (its loop is blocked), so that kill -9 finds it exactly there.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from veredus.core.messaging.answers import Answers
from veredus.core.messaging.journal import Journal
from veredus.core.messaging.routing import Routing
from veredus.core.messaging.session import Session
from veredus.server.config import load
from veredus.server.store.messages import PostgresMessageStore
from veredus.server.wiring import Worker, serve

# Step → (class, method, whether the gate stands behind it).
GATES: dict[str, tuple[type, str, bool]] = {
    "accepted": (Journal, "_process", False),  # taken into a batch, nothing written
    "committing": (PostgresMessageStore, "commit", False),
    "committed": (PostgresMessageStore, "commit", True),  # durable, nobody told
    "routed": (Routing, "route", True),  # the recipient's frame is queued, the sender not answered
    "answered": (Session, "answer", True),  # queued, perhaps not written
    "acknowledged": (PostgresMessageStore, "remove", False),  # the acknowledgement is here, the row as well
    "removed": (PostgresMessageStore, "remove", True),
}


# A gate of this name breaks instead: the step raises what nobody expects.
BROKEN = "broken"


class Gate:
    """Counts passes, then holds."""

    def __init__(self, passes: int) -> None:
        self.left = passes

    def come(self) -> None:
        if self.left:
            self.left -= 1
            return
        print("reached", flush=True)
        while True:
            signal.pause()


def install(step: str, gate: Gate) -> None:
    """Put the gate around its method."""
    if step == BROKEN:
        Answers.give = break_after(gate, Answers.give)  # type: ignore[method-assign]
        return
    owner, name, behind = GATES[step]
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    async def gated_coroutine(*args: Any) -> Any:
        if not behind:
            gate.come()
        result = await original(*args)
        if behind:
            gate.come()
        return result

    @functools.wraps(original)
    def gated(*args: Any) -> Any:
        result = original(*args)
        gate.come()
        return result

    setattr(owner, name, gated_coroutine if asyncio.iscoroutinefunction(original) else gated)


def break_after(gate: Gate, original: Callable[..., Any]) -> Callable[..., Any]:
    """The method, until the gate's passes are used up; then it raises."""

    def broken(*args: Any) -> Any:
        if gate.left:
            gate.left -= 1
            return original(*args)
        raise ZeroDivisionError

    return broken


def main(config: Path, step: str, passes: int) -> None:
    import uvloop

    if step:
        install(step, Gate(passes))

    def serving(worker: Worker) -> None:
        print("serving", flush=True)

    async def run() -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        await serve(load(config, {}), ready=serving, stopping=stopping)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
