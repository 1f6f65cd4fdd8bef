"""The echo behind /v1/echo: what a public RFC 6455 suite judges the stack by. Served in development only.

Sends every message back as it came. Owns nothing else, and knows nothing of accounts.
"""

from __future__ import annotations

from veredus.ext.channel import Channel


class Echo(Channel):
    """A connection that says what it hears."""

    def on_message(self, text: bool, payload: bytes) -> None:
        self.send_message(text, payload)
