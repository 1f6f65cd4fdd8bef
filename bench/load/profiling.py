"""A sampling profile of a worker while a test measures, by py-spy where it is installed. Judges nothing; `report.stages` reads it."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

SAMPLES_A_SECOND = 400
STOP_SECONDS = 20.0


def found() -> str | None:
    """The profiler's program: beside this Python, or on the PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


@asynccontextmanager
async def profiled(pid: int, seconds: float, folded: Path) -> AsyncIterator[None]:
    """Sample a process and its children for so long from now on, C functions included, as folded stacks. Raises OSError without py-spy."""
    program = found()
    if program is None:
        raise FileNotFoundError("py-spy is not installed")
    process = await asyncio.create_subprocess_exec(
        program, "record", "--pid", str(pid), "--duration", str(max(1, int(seconds))), "--rate", str(SAMPLES_A_SECOND),
        "--native", "--subprocesses", "--format", "raw", "--output", str(folded),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
