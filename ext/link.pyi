"""A client's connection in protobuf: `veredus.core.ports.Wire` on one side, `Peer` on the other."""

from collections.abc import Sequence

from veredus.core.errors import Code
from veredus.core.limits import Limits
from veredus.core.model import Reply
from veredus.core.ports import Peer
from veredus.ext.channel import Channel
from veredus.ext.envelope import Identity
from veredus.ext.station import Station

class Link(Channel):
    """`veredus.core.ports.Wire`. Everything queued during one loop iteration leaves in one write; calls after the end do nothing."""

    identity: Identity

    def __init__(self, station: Station, account: bytes, device: int, limits: Limits) -> None:
        """ValueError: `account` is not 16 bytes."""
    def bind(self, peer: Peer) -> None:
        """The receiving half. Before any byte is fed."""
    def hello(self, epoch: bytes, server_timestamp: int) -> None: ...
    def deliver(self, tag: int, envelope: bytes, server_timestamp: int) -> bool: ...
    def answer(self, replies: Sequence[Reply]) -> None: ...
    def drained(self, tag: int) -> None: ...
    def error(self, code: Code, detail: str = "", retry_after_ms: int = 0) -> None: ...
    def shutdown(self, reconnect_after_ms: int) -> None: ...
