"""Sessions connected to this worker, and how committed rows reach them.

A row is pushed to the session that holds its device, or stays in the store until the device comes. Pushing is speed; correctness is the
mailbox's paging.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from veredus.core.messaging.context import Context
from veredus.core.model import Location, Outcome, Row, Submission


class Receiver(Protocol):
    """A connected device."""

    def push(self, row: Row) -> bool:
        """A committed row. Says whether it is on its way."""
        ...

    def push_ephemeral(self, envelope: bytes, server_timestamp: int) -> bool:
        """An envelope that is stored nowhere. Says whether it is on its way."""
        ...

    def ring(self) -> None:
        """There may be rows that nobody pushes."""
        ...

    def replace(self) -> None:
        """The same device connected again: give way."""
        ...

    def silent(self) -> int:
        """The row that has waited for its acknowledgement since the last call, 0 when there is none."""
        ...


class Routing:
    """Who is here. One receiver per device: a newer one replaces the older."""

    def __init__(self, context: Context) -> None:
        self._receivers: dict[int, Receiver] = {}
        self._unsure: set[int] = set()  # devices being claimed
        self._context = context
        self._counters = context.counters

    def __contains__(self, device: int) -> bool:
        return device in self._receivers

    def __len__(self) -> int:
        return len(self._receivers)

    def attach(self, device: int, receiver: Receiver) -> None:
        """From now on this receiver holds the device."""
        older = self._receivers.get(device)
        self._receivers[device] = receiver
        self._unsure.discard(device)  # a new one looks by itself, once it is claimed
        if older is not None:
            self._counters.replaced_sessions += 1
            older.replace()

    def detach(self, device: int, receiver: Receiver) -> bool:
        """The receiver is gone. False when another one holds the device by now."""
        if self._receivers.get(device) is not receiver:
            return False
        del self._receivers[device]
        self._unsure.discard(device)
        return True

    def claiming(self, devices: Iterable[int]) -> None:
        """From now on others may find these devices again, which they could not for a while: what they bring may not be the first."""
        self._unsure.update(devices)

    def unsure(self, device: int) -> bool:
        """Rows that other workers bring for this device may have missed some before them: ring instead of pushing."""
        return device in self._unsure

    def claimed(self, displaced: Mapping[int, Location | None]) -> None:
        """Presence knows these devices again, perhaps after a gap in which nobody could find them: look into their mailboxes."""
        self._unsure.difference_update(displaced)
        self.ring(list(displaced))

    def superseded(self, devices: Sequence[int]) -> None:
        """These devices connected elsewhere since: their connections here give way."""
        for device in devices:
            receiver = self._receivers.pop(device, None)
            self._unsure.discard(device)
            if receiver is not None:
                self._counters.replaced_sessions += 1
                receiver.replace()

    def ring(self, devices: Sequence[int]) -> None:
        """Tell those of these devices that are here to look into their mailboxes."""
        for device in devices:
            receiver = self._receivers.get(device)
            if receiver is not None:
                self._counters.doorbells += 1
                receiver.ring()

    def devices(self) -> list[int]:
        """All devices that are here."""
        return list(self._receivers)

    def silent(self) -> dict[int, int]:
        """Devices that have not acknowledged their oldest delivery since the last call, with its row."""
        return {device: row_id for device, receiver in self._receivers.items() if (row_id := receiver.silent())}

    def push(self, device: int, row: Row) -> None:
        """A committed row for a device that is here."""
        if self._receivers[device].push(row):
            self._counters.delivered += 1

    def push_ephemeral(self, device: int, envelope: bytes, server_timestamp: int) -> None:
        """For whoever is here and keeps up; the others never hear of it."""
        receiver = self._receivers.get(device)
        if receiver is None or not receiver.push_ephemeral(envelope, server_timestamp):
            self._counters.ephemeral_dropped += 1

    def route(self, submission: Submission, outcome: Outcome) -> None:
        """Push the rows of one committed send to those of its devices that are here."""
        receivers = self._receivers
        for device, row_id, envelope in zip(submission.targets, outcome.ids, submission.send.envelopes, strict=True):
            receiver = receivers.get(device)
            if receiver is not None and receiver.push(Row(row_id, outcome.guid, outcome.server_timestamp, envelope)):
                self._counters.delivered += 1
        self._context.mark("routed", outcome.guid)
