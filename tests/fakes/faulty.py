"""A model server in memory that can break each promise on purpose, to prove that the checker sees it.

Owns no policy worth imitating: it is as small as a server that keeps the promises can be, plus one switch. A fault strikes once, at the
first opportunity after `arm`, and says so in `struck`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.checker.check import Held
from tests.checker.history import Device, Send, digest_of
from veredus.core.errors import Code

LIMIT = 8  # devices in one send: more is refused


class Fault(Enum):
    """One way to break a promise."""

    LOSE_ROW = auto()  # SENT, but one device's row was not stored
    FORGET_DELIVERED = auto()  # a row goes when it is delivered, not when it is acknowledged
    DOUBLE = auto()  # a repeat is stored again under a new guid
    REORDER = auto()  # two rows of one sender change places
    EARLY_ACKNOWLEDGEMENT = auto()  # SENT before the commit, then a crash
    DELIVER_REFUSED = auto()  # refused, stored all the same
    WRONG_DEVICE = auto()  # the row goes to another mailbox
    OTHER_ANSWER = auto()  # a repeat gets another time
    OTHER_GUID = auto()  # a repeat gets another guid, though nothing is stored
    ACCEPT_OTHER_BODY = auto()  # another body under a known id is answered SENT
    REFUSE_REPEAT = auto()  # a repeat of the same body is refused as another
    SKIP_WAKE_UP = auto()  # an online device is not told of its last row
    REPEAT_TAG = auto()
    SKIP_TAG = auto()
    TWICE = auto()  # one row is delivered twice on one connection
    CHANGE_CONTENT = auto()
    OVERTAKE = auto()  # after a retryable refusal the next send is accepted without Resume
    RESURRECT = auto()  # a row comes back after its acknowledgement took effect
    ANSWER_TWICE = auto()
    FALSE_DRAINED = auto()  # Drained names a tag that was not used
    WRONG_SOURCE = auto()


@dataclass(slots=True)
class Row:
    guid: bytes
    digest: bytes
    source: Device


@dataclass(slots=True)
class Answer:
    client_id: bytes
    code: Code
    guid: bytes = b""
    server_timestamp: int = 0


@dataclass(slots=True)
class Line:
    """One connection: what the server still has to look at and what it has sent."""

    device: Device
    queue: list[Send] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    tag: int = 0
    sent: dict[int, bytes] = field(default_factory=dict)
    blocked: bool = False


class Model:
    """Mailboxes, keys and lines. The caller moves everything: `look` at queued sends, `next_delivery`, `acknowledge`, `crash`."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault
        self.armed = False
        self.struck = False
        self.busy = False
        self.crash_due = False
        self.mailboxes: dict[Device, list[Row]] = defaultdict(list)
        self.keys: dict[tuple[Device, bytes], tuple[Send, Answer]] = {}
        self._removed: list[tuple[Device, Row]] = []
        self._delivered: set[tuple[Device, bytes]] = set()
        self._clock = 0

    def strikes(self, fault: Fault, possible: bool = True) -> bool:
        """Whether the planted fault happens here and now."""
        if self.fault is not fault or not self.armed or self.struck or not possible:
            return False
        self.struck = True
        return True

    def look(self, line: Line) -> None:
        """Judge, commit and answer the oldest queued send of a line."""
        send = line.queue.pop(0)
        key = (line.device, send.client_id)
        known = self.keys.get(key)
        if (self.busy or line.blocked) and not self.strikes(Fault.OVERTAKE, line.blocked and known is None):
            line.blocked = True
            answer = Answer(send.client_id, Code.BUSY)
        elif known is not None:
            answer = self._repeat(line, send, *known)
        elif len(send.contents) > LIMIT:
            answer = Answer(send.client_id, Code.TOO_LARGE)
            if self.strikes(Fault.DELIVER_REFUSED):
                self._store(line.device, send, self._guid())
        else:
            answer = self._commit(line.device, send)
        line.answers.append(answer)
        if answer.code is Code.OK and self.strikes(Fault.ANSWER_TWICE):
            line.answers.append(answer)

    def next_delivery(self, line: Line) -> tuple[int, Row] | None:
        """The next row this line was not sent, with its tag."""
        mailbox, sent = self.mailboxes[line.device], set(line.sent.values())
        row = next((row for row in mailbox if row.guid not in sent), None)
        if row is None:
            if not (mailbox and self.strikes(Fault.TWICE)):
                return None
            row = mailbox[-1]
        elif row is mailbox[-1] and self.strikes(Fault.SKIP_WAKE_UP):
            line.sent[-1] = row.guid
            return None
        if not (line.tag and self.strikes(Fault.REPEAT_TAG)):
            line.tag += 2 if self.strikes(Fault.SKIP_TAG) else 1
        line.sent[line.tag] = row.guid
        self._delivered.add((line.device, row.guid))
        if self.strikes(Fault.FORGET_DELIVERED):
            mailbox.remove(row)
        changed = digest_of(b"changed") if self.strikes(Fault.CHANGE_CONTENT) else row.digest
        source = Device(b"?" * 16, 1) if self.strikes(Fault.WRONG_SOURCE) else row.source
        return line.tag, Row(row.guid, changed, source)

    def drained(self, line: Line) -> int:
        """The tag that Drained names now."""
        return line.tag + 1 if self.strikes(Fault.FALSE_DRAINED) else line.tag

    def acknowledge(self, line: Line, tags: list[int]) -> None:
        """Forget rows; a guid this line was not sent is ignored."""
        gone = {line.sent[tag] for tag in tags if tag in line.sent}
        mailbox = self.mailboxes[line.device]
        self._removed += [(line.device, row) for row in mailbox if row.guid in gone]
        mailbox[:] = [row for row in mailbox if row.guid not in gone]

    def resurrect(self) -> None:
        """The opportunity of RESURRECT: acknowledged rows are known to be gone."""
        if self.strikes(Fault.RESURRECT, bool(self._removed)):
            device, row = self._removed[-1]
            self.mailboxes[device].append(row)

    def held(self) -> dict[Device, list[Held]]:
        """What every mailbox still has."""
        return {device: [Held(row.guid, row.digest) for row in rows] for device, rows in self.mailboxes.items()}

    def _repeat(self, line: Line, send: Send, first: Send, answer: Answer) -> Answer:
        if (first.contents, first.destination) != (send.contents, send.destination):
            accept = self.strikes(Fault.ACCEPT_OTHER_BODY)
            return answer if accept else Answer(send.client_id, Code.IDEMPOTENCY_MISMATCH)
        if self.strikes(Fault.DOUBLE):
            self._store(line.device, send, self._guid())
        if self.strikes(Fault.REFUSE_REPEAT):
            return Answer(send.client_id, Code.IDEMPOTENCY_MISMATCH)
        if self.strikes(Fault.OTHER_ANSWER):
            return Answer(send.client_id, Code.OK, answer.guid, answer.server_timestamp + 1)
        if self.strikes(Fault.OTHER_GUID):
            return Answer(send.client_id, Code.OK, self._guid(), answer.server_timestamp)
        return answer

    def _commit(self, sender: Device, send: Send) -> Answer:
        guid = self._guid()
        answer = Answer(send.client_id, Code.OK, guid, self._clock)
        if self.strikes(Fault.EARLY_ACKNOWLEDGEMENT):
            self.crash_due = True
            return answer
        self._store(sender, send, guid)
        self.keys[sender, send.client_id] = (send, answer)
        return answer

    def _store(self, sender: Device, send: Send, guid: bytes) -> None:
        for number, digest in send.contents:
            if self.strikes(Fault.LOSE_ROW):
                continue
            device = Device(send.destination, number)
            if self.strikes(Fault.WRONG_DEVICE):
                others = (other for other in self.mailboxes if other.account != send.destination)
                device = next(others, Device(b"?" * 16, 1))
            mailbox = self.mailboxes[device]
            swap = self.strikes(Fault.REORDER, self._undelivered_of(sender, device))
            mailbox.insert(len(mailbox) - swap, Row(guid, digest, sender))

    def _undelivered_of(self, sender: Device, device: Device) -> bool:
        last = self.mailboxes[device][-1:]
        return any(row.source == sender and (device, row.guid) not in self._delivered for row in last)

    def _guid(self) -> bytes:
        self._clock += 1
        return self._clock.to_bytes(16, "big")
