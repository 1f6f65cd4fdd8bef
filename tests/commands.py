"""Runs the program `veredus` as a process of its own, as a person or a service manager would. Not a test."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LINE_SECONDS = 60.0
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith("VEREDUS_") and name not in ("DATABASE_URL", "REDIS_URL")
}


class Program:
    """A running `veredus`. `lines` is what it has written to standard output so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, text: str) -> str:
        """The next line with this text in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LINE_SECONDS):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line.rstrip("\n"))
                if text in line:
                    return self.lines[-1]
        raise AssertionError(f"it ended before it said {text!r}: {self.lines}")

    async def ended(self) -> tuple[int, str, str]:
        """Exit code, and the rest of both outputs."""
        async with asyncio.timeout(LINE_SECONDS):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def veredus(*arguments: str, **environment: str) -> AsyncIterator[Program]:
    """Start it; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "veredus.server", *arguments, env={**ENVIRONMENT, **environment},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run it to its end: exit code, standard output, standard error."""
    async with veredus(*arguments, **environment) as program:
        return await program.ended()
