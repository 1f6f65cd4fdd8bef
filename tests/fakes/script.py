"""Clients of the model server, driven step by step by a script, recording what they see. They behave as the SDK does."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from tests.checker.history import (
    Ack,
    Confirmed,
    Connect,
    Deliver,
    Device,
    Disconnect,
    Drained,
    History,
    Quiescent,
    Refused,
    Resume,
    Send,
    Sent,
    digest_of,
)
from tests.fakes.faulty import LIMIT, Fault, Line, Model
from veredus.core.errors import CATALOGUE, Code

ACCOUNTS = (b"a" * 16, b"b" * 16)
DEVICES = tuple(Device(account, number) for account in ACCOUNTS for number in (1, 2))


@dataclass(slots=True)
class Player:
    """One device: its line, the sends it waits for (in order), the answered ones it can repeat."""

    device: Device
    name: str = ""
    line: Line | None = None
    seq: int = 0
    waiting: dict[bytes, Send] = field(default_factory=dict)
    answered: list[Send] = field(default_factory=list)
    unacknowledged: list[int] = field(default_factory=list)
    blocked: bool = False


class Stage:
    """Plays steps against a model and records the history."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.model = Model(fault)
        self.history = History()
        self.players = [Player(device) for device in DEVICES]
        self._made = 0

    def connect(self, player: Player) -> Line:
        if player.line is None:
            self._made += 1
            player.name, player.seq, player.unacknowledged, player.blocked = f"c{self._made}", 0, [], False
            player.line = Line(player.device)
            self.history.record(Connect(connection=player.name, device=player.device))
            for send in list(player.waiting.values()):
                self._emit(player, send)
        return player.line

    def drop(self, player: Player, looked: int) -> None:
        """The connection is lost after the server looked at some of what was queued; their answers are lost."""
        if player.line is not None:
            for _ in range(min(looked, len(player.line.queue))):
                self.model.look(player.line)
            player.line = None
            self.history.record(Disconnect(connection=player.name))

    def send(self, player: Player, to: int, both: bool, big: bool = False) -> None:
        self.connect(player)
        self._made += 1
        numbers = range(1, LIMIT + 2) if big else (1, 2) if both else (1 + self._made % 2,)
        contents = tuple((number, digest_of(b"%d to %d" % (self._made, number))) for number in numbers)
        client_id = self._made.to_bytes(16, "big")
        self._emit(player, Send(connection="", seq=0, client_id=client_id, destination=ACCOUNTS[to % 2], contents=contents))

    def repeat(self, player: Player, which: int, other_body: bool) -> None:
        if player.answered:
            self.connect(player)
            send = player.answered[which % len(player.answered)]
            if send.client_id not in player.waiting:
                contents = tuple((number, digest_of(digest)) for number, digest in send.contents) if other_body else send.contents
                self._emit(player, Send(connection="", seq=0, client_id=send.client_id, destination=send.destination, contents=contents))

    def look(self, player: Player, count: int = 1) -> None:
        """The server looks at queued sends and the answers arrive; a crash that is due happens after them."""
        line = player.line
        for _ in range(min(count, len(line.queue)) if line else 0):
            assert line is not None
            self.model.look(line)
            self._answers(player, line)
        if self.model.crash_due:
            self.model.crash_due = False
            self.crash()

    def receive(self, player: Player, count: int) -> None:
        line = self.connect(player)
        for _ in range(count):
            delivery = self.model.next_delivery(line)
            if delivery is None:
                self.history.record(Drained(connection=player.name, tag=self.model.drained(line)))
                return
            tag, row = delivery
            self.history.record(
                Deliver(connection=player.name, tag=tag, guid=row.guid, digest=row.digest, source=row.source, destination=player.device)
            )
            player.unacknowledged.append(tag)

    def acknowledge(self, player: Player, count: int, up_to: bool, confirmed: bool) -> None:
        tags = player.unacknowledged[:count]
        if player.line is None or not tags:
            return
        player.unacknowledged = player.unacknowledged[count:]
        self.history.record(Ack(connection=player.name, up_to=tags[-1]) if up_to else Ack(connection=player.name, tags=tuple(tags)))
        self.model.acknowledge(player.line, tags)
        if confirmed:
            self.history.record(Confirmed(connection=player.name))
            self.model.resurrect()

    def crash(self) -> None:
        """The server dies: every line goes with what was queued on it, what is stored stays."""
        for player in self.players:
            self.drop(player, 0)

    def settle(self) -> None:
        """Let everything be answered and arrive everywhere; clients repeat what was refused."""
        self.model.busy = False
        for _ in range(3):
            for player in self.players:
                line = self.connect(player)
                while line is player.line and line.queue:
                    self.look(player)
                self._unblock(player)
        for player in self.players:
            self.receive(player, 1 << 30)
        self.history.record(Quiescent())

    def _emit(self, player: Player, send: Send) -> None:
        assert player.line is not None
        if not player.blocked:
            player.seq += 1
            send = msgspec.structs.replace(send, connection=player.name, seq=player.seq)
            self.history.record(send)
            player.line.queue.append(send)
        player.waiting[send.client_id] = send

    def _answers(self, player: Player, line: Line) -> None:
        while line.answers:
            answer = line.answers.pop(0)
            if answer.code is Code.OK:
                self.history.record(
                    Sent(
                        connection=player.name,
                        client_id=answer.client_id,
                        guid=answer.guid,
                        server_timestamp=answer.server_timestamp,
                    )
                )
            else:
                self.history.record(Refused(connection=player.name, client_id=answer.client_id, code=answer.code))
            if CATALOGUE[answer.code].retryable:
                player.blocked = True
            else:
                send = player.waiting.pop(answer.client_id, None)
                if send is not None and answer.code is Code.OK:
                    player.answered.append(send)
        if player.blocked and not line.queue:
            self._unblock(player)

    def _unblock(self, player: Player) -> None:
        if player.blocked and player.line is not None:
            player.blocked = player.line.blocked = False
            self.history.record(Resume(connection=player.name))
            for send in list(player.waiting.values()):
                self._emit(player, send)
