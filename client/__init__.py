"""The client library: `Client` connects a device, sends, receives, acknowledges and survives reconnects. Never imports the server."""

from veredus.client.client import Client
from veredus.client.errors import (
    ClientClosed,
    ConnectionRefused,
    DevicesMismatch,
    DevicesStale,
    IdempotencyMismatch,
    SendRefused,
    TooLarge,
    UnknownRecipient,
)
from veredus.client.model import Config, Credentials, Message, Sent
from veredus.client.observer import Observer
from veredus.client.store import FileStore, MemoryStore, PendingStore

__all__ = [
    "Client",
    "ClientClosed",
    "Config",
    "ConnectionRefused",
    "Credentials",
    "DevicesMismatch",
    "DevicesStale",
    "FileStore",
    "IdempotencyMismatch",
    "MemoryStore",
    "Message",
    "Observer",
    "PendingStore",
    "SendRefused",
    "Sent",
    "TooLarge",
    "UnknownRecipient",
]
