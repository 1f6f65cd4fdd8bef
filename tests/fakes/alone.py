"""A delivery on a store with nobody else around: presence, bus and relay in memory."""

from __future__ import annotations

from tests.fakes.bus import MemoryBus
from tests.fakes.presence import MemoryPresence
from veredus.core.limits import Limits
from veredus.core.messaging.context import Context
from veredus.core.messaging.delivery import Delivery
from veredus.core.messaging.relay import Relay
from veredus.core.messaging.routing import Routing
from veredus.core.ports import Directory, MessageStore, Wakeups


def alone(store: MessageStore, directory: Directory, wakeups: Wakeups, limits: Limits, epoch: bytes = b"e" * 16) -> Delivery:
    """One worker."""
    context, bus, presence = Context(limits=limits), MemoryBus(), MemoryPresence()
    relay = Relay("one", bus, presence, wakeups, Routing(context), context)
    bus.workers["one"] = relay
    return Delivery(store, directory, presence, relay, epoch, context)
