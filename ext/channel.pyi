"""One WebSocket connection from its 101 to its end."""

import asyncio

from veredus.core.errors import Code
from veredus.ext.intake import Intake

class Channel(Intake):
    """A connection whose messages go to `on_message`. Subclass it, in Python or on the C methods it declares."""

    def begin(self, transport: asyncio.Transport, key: bytes, subprotocol: str | None) -> None:
        """Answer the upgrade, which was judged already, with 101 and take the transport over. `key` is Sec-WebSocket-Key."""
    def data_received(self, data: bytes) -> None:
        """Bytes that came before the transport was taken over."""
    def connection_lost(self, exc: Exception | None) -> None: ...
    def eof_received(self) -> bool: ...
    def get_buffer(self, size_hint: int) -> memoryview: ...
    def buffer_updated(self, size: int) -> None: ...
    def on_message(self, text: bool, payload: bytes) -> None:
        """A whole message came. Texts are valid UTF-8."""
    def on_lost(self) -> None:
        """The connection is gone. Called once, last."""
    def send_message(self, text: bool, payload: bytes) -> None:
        """Queue a message of its own."""
    def close(self, code: Code) -> None:
        """Close with the catalogue's close code after what is queued. Safe to repeat."""
    def pause_reading(self) -> None:
        """Stop reading from the peer."""
    def resume_reading(self) -> None:
        """Read from the peer again."""
