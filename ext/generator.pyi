"""Simulated devices of the load generator: what a client does per message, in C. For benchmarks; real clients use `veredus.client`."""

from collections.abc import Callable
from typing import Literal

from picows import WSFrame, WSListener, WSTransport

from veredus.ext.hist import Histogram

class Run:
    """What all devices of a process share: the form of messages, the counts, and latencies in nanoseconds while `recording`."""

    def __init__(self, clock: Callable[[], int], filler: bytes, nonce: int, type: int, payload: int) -> None:
        """`clock` gives nanoseconds; `filler` is 1 MiB of random bytes; `nonce` tells this run's messages from any other's (64 bits);
        `type` is that of the envelopes; `payload` (bytes) at least 32. Raises ValueError."""
    recording: bool
    @property
    def sent_latency(self) -> Histogram:
        """From the intended time to SENT."""
    @property
    def delivered_latency(self) -> Histogram:
        """From the intended time to the delivery."""
    @property
    def accepted(self) -> int:
        """Sends answered SENT."""
    @property
    def refused(self) -> int:
        """Retryable refusals; each was sent again."""
    @property
    def failed(self) -> int:
        """Sends refused for good."""
    @property
    def delivered(self) -> int:
        """Deliveries of this run's messages, repeats included."""
    @property
    def duplicated(self) -> int: ...
    @property
    def reordered(self) -> int: ...
    @property
    def foreign(self) -> int:
        """Deliveries of messages that are not of this run."""
    @property
    def malformed(self) -> int:
        """Frames, tags and answers that break the protocol."""
    @property
    def errors(self) -> int:
        """Error items from the server."""

class Device(WSListener):
    """One connection. `told(device, event)` hears of its life; a device is a sender once it was aimed, and a recipient always."""

    def __init__(
        self, run: Run, number: int, senders: int, told: Callable[[Device, Literal["greeted", "drained", "refused", "lost"]], None]
    ) -> None:
        """`number` names it among the senders of the run, of which there are `senders`."""
    def aim(self, destinations: bytes, window: int, limit: int = 0) -> None:
        """Make it a sender, to device 1 of each of these accounts (16 bytes each) in turn; `limit` sends in all, 0: no end.

        Raises ValueError when done twice or with nothing to aim at.
        """
    def start(self) -> None:
        """Keep the window full from now on."""
    def send(self, intended: int) -> None:
        """Send one message that was to leave at `intended` (nanoseconds); it waits when the window is full."""
    def halt(self) -> None:
        """Send nothing more; what is refused is still sent again."""
    def resume(self) -> None:
        """Send again what was refused, in its order. Does nothing while anything flies."""
    def close(self) -> None:
        """Drop the connection."""
    def lost_of(self, sender: int, accepted: int) -> int:
        """How many of the first `accepted` messages of a sender's stream to this device never came."""
    @property
    def run(self) -> Run: ...
    @property
    def number(self) -> int: ...
    @property
    def close_code(self) -> int:
        """The code of the server's CLOSE; 0 before, or without one."""
    @property
    def flying(self) -> int:
        """Sends without an answer."""
    @property
    def waiting(self) -> int:
        """Sends without an answer, refused and due ones included."""
    @property
    def finished(self) -> bool:
        """The limit of sends is reached and all are answered."""
    @property
    def accepted(self) -> int:
        """Sends of this device answered SENT."""
    @property
    def received(self) -> int:
        """Deliveries to this device."""
    def on_ws_connected(self, transport: WSTransport) -> None: ...
    def on_ws_disconnected(self, transport: WSTransport) -> None: ...
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
