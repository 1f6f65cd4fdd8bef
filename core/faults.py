"""How our own bugs are written down: their kind and places, never the text of an exception, which may hold what people wrote (P8)."""

from __future__ import annotations

import traceback

CAUSES, FRAMES = 5, 8  # enough to find the line; chains of causes can be circular


def describe(error: BaseException) -> str:
    """One line for an exception nobody expected: its type, its causes' types and the innermost lines of code."""
    kinds: list[str] = []
    frames: list[traceback.FrameSummary] = []
    cause: BaseException | None = error
    while cause is not None and len(kinds) < CAUSES:
        kinds.append(type(cause).__name__)
        frames = traceback.extract_tb(cause.__traceback__)[-FRAMES:]
        cause = cause.__cause__ or cause.__context__
    where = " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    return f"{' from '.join(kinds)} at {where}"
