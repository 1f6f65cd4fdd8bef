"""Where sends wait that have no final answer: in memory, or in a file so that a killed client sends them again under the same ids."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from veredus.client.model import Draft


class PendingStore(Protocol):
    """Keeps drafts from submission to their final answer."""

    def pending(self) -> Sequence[Draft]:
        """What an earlier life of this client left without an answer, in its order. Asked once, at the start."""
        ...

    def add(self, draft: Draft) -> None:
        """Keep a draft, before it can leave."""
        ...

    def settle(self, client_id: bytes) -> None:
        """It was answered for good."""
        ...


class MemoryStore:
    """Keeps nothing beyond the life of the client, which has its drafts in memory anyhow."""

    def pending(self) -> Sequence[Draft]:
        return ()

    def add(self, draft: Draft) -> None:
        pass

    def settle(self, client_id: bytes) -> None:
        pass


class _Line(msgspec.Struct, omit_defaults=True):
    """One line of the file: a draft that waits, or the client id of one that does no longer."""

    draft: Draft | None = None
    settled: bytes | None = None


class FileStore:
    """A file of JSON lines, one writer. Holds contents as they go on the wire: protect it as you protect the messages.

    Survives the death of the process, not of the machine (nothing is synced: the server's answer is what makes a message safe).
    """

    def __init__(self, path: Path) -> None:
        self._encoder = msgspec.json.Encoder()
        self._left = self._load(path)
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        self._file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        for draft in self._left:
            self.add(draft)
        fresh.replace(path)

    def pending(self) -> Sequence[Draft]:
        return self._left

    def add(self, draft: Draft) -> None:
        self._write(_Line(draft=draft))

    def settle(self, client_id: bytes) -> None:
        self._write(_Line(settled=client_id))

    def close(self) -> None:
        """Close the file. What is pending stays in it."""
        os.close(self._file)

    def _write(self, line: _Line) -> None:
        os.write(self._file, self._encoder.encode(line) + b"\n")

    @staticmethod
    def _load(path: Path) -> tuple[Draft, ...]:
        if not path.exists():
            return ()
        decoder = msgspec.json.Decoder(_Line)
        waiting: dict[bytes, Draft] = {}
        for text in path.read_bytes().split(b"\n")[:-1]:  # a last line cut short was never acted on
            line = decoder.decode(text)
            if line.draft is not None:
                waiting[line.draft.client_id] = line.draft
            elif line.settled is not None:
                waiting.pop(line.settled, None)
        return tuple(waiting.values())
