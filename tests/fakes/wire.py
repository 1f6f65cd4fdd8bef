"""The peer's end of a connection, in memory: records what it is sent, and can be slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from veredus.core.errors import CATALOGUE, Code
from veredus.core.model import Reply


@dataclass
class MemoryWire:
    """`room` is how many deliveries it still takes; None: any number."""

    room: int | None = None
    deliveries: list[tuple[int, bytes, int]] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    drained_at: list[int] = field(default_factory=list)
    errors: list[Code] = field(default_factory=list)
    closed: Code | None = None
    reading: bool = True
    greeted: bool = False

    def hello(self, epoch: bytes, server_timestamp: int) -> None:
        self.greeted = True

    def deliver(self, tag: int, envelope: bytes, server_timestamp: int) -> bool:
        if self.room is not None:
            if self.room == 0:
                return False
            self.room -= 1
        self.deliveries.append((tag, envelope, server_timestamp))
        return True

    def answer(self, replies: Sequence[Reply]) -> None:
        self.replies += replies

    def drained(self, tag: int) -> None:
        self.drained_at.append(tag)

    def error(self, code: Code, detail: str = "", retry_after_ms: int = 0) -> None:
        self.errors.append(code)
        if CATALOGUE[code].close_code is not None:
            self.close(code)

    def shutdown(self, reconnect_after_ms: int) -> None:
        pass

    def close(self, code: Code) -> None:
        self.closed = self.closed or code

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
