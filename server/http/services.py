"""What the HTTP edge needs, given to it whole: no globals, nothing built here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from veredus.core.identity.authentication import Authenticator
from veredus.core.limits import Limits
from veredus.core.model import Principal
from veredus.core.ports import MessageStore, Origin
from veredus.server.http.metrics import HttpMetrics

if TYPE_CHECKING:
    from veredus.ext.envelope import Send


class Sends(Protocol):
    """Takes sends: `core.messaging.delivery.Delivery`."""

    def accept(self, origin: Origin, principal: Principal, sends: Sequence[Send]) -> None:
        """Judge, commit and route; the answers go to the origin."""
        ...


class Probe(StrEnum):
    """What a health check asks."""

    LIVE = "live"  # does this process still answer? If not, restart it
    READY = "ready"  # may it be given work now?
    STARTUP = "startup"  # has it come up?


class Health(Protocol):
    """Knows what is wrong."""

    async def failing(self, probe: Probe) -> Sequence[str]:
        """Names of the parts that fail: fixed words, never addresses or texts of exceptions. Empty when all is well."""
        ...


@dataclass(frozen=True)
class HttpServices:
    """The ports behind the routes."""

    authenticator: Authenticator
    sends: Sends
    mailboxes: MessageStore
    health: Health
    metrics: HttpMetrics
    limits: Limits
