"""The development push provider: says in the log that a device would be told. Never names an account, a device or content (P8)."""

from __future__ import annotations

import hashlib
import secrets

import structlog

from veredus.core.model import PushOutcome, PushVerdict

log = structlog.get_logger("veredus.push")


class LogProvider:
    """`PushProvider`. Devices show as hashes under a key that dies with the process: lines can be told apart, nobody can be found."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(16)
        self._total = 0

    async def send(self, device: int, urgent: bool) -> PushOutcome:
        """See `core.ports.PushProvider`."""
        self._total += 1
        name = hashlib.blake2b(device.to_bytes(8, "big", signed=True), digest_size=4, key=self._key).hexdigest()
        log.info("push", device=name, urgent=urgent, total=self._total)
        return PushOutcome(PushVerdict.SENT)
