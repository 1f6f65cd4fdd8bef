"""What waits to be written on one connection: WebSocket messages in one piece of memory, so that they leave in one write."""

from veredus.ext.frames import FrameWriter

class Outbox:
    """Messages waiting for the end of the loop iteration. Within a message kinds never fall; a smaller one begins the next message."""

    @property
    def max_deliveries(self) -> int:
        """In one message."""
    @property
    def max_bytes(self) -> int:
        """Payload of one message; a single larger item goes alone."""
    def __init__(self, max_deliveries: int, max_bytes: int) -> None: ...
    def frame(self, kind: int, size: int = 0) -> FrameWriter:
        """The frame to put one item of this kind (a field number of ServerFrame) into, about `size` bytes large."""
    def add_message(self, opcode: int, payload: bytes) -> None:
        """Queue a message of its own."""
    def take(self) -> bytes:
        """Everything queued, as it goes on the wire; the outbox is empty afterwards."""
    @property
    def size(self) -> int:
        """Bytes queued, the header of the last frame excluded."""
