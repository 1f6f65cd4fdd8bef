"""`veredus account create`: an account whose devices authenticate with secrets made here and shown once."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
from uuid import UUID, uuid4

import msgspec

from veredus.core.errors import StoreUnavailable
from veredus.core.identity.credentials import DeviceSecrets
from veredus.server.config import Config, load
from veredus.server.store.accounts import Accounts, Secret
from veredus.server.store.postgres import Postgres, StoreConfig

REGISTRATION_IDS = 16_380  # Signal's clients draw 14 bits, without 0 and the last few


class Issued(msgspec.Struct, frozen=True):
    """One device's credentials; the password is kept nowhere else."""

    account: UUID
    device: int
    password: str

    def __repr__(self) -> str:
        return f"Issued({self.account}.{self.device})"

    def line(self) -> str:
        """UUID.DEVICE:PASSWORD, as `veredus chat --as` takes it."""
        return f"{self.account}.{self.device}:{self.password}"


def run(arguments: argparse.Namespace) -> int:
    """Make one account and print a line for each device."""
    config = load(arguments.config, os.environ)
    for issued in asyncio.run(create(config, arguments.devices)):
        print(issued.line())
    return 0


async def create(config: Config, devices: int = 1) -> list[Issued]:
    """A new account with this many devices. Raises `StoreUnavailable`."""
    store = Postgres(StoreConfig(dsn=config.database_url.reveal()))
    try:
        await store.start()
        return await _create(store.accounts, DeviceSecrets(config.pepper()), devices)
    finally:
        await store.close()


async def _create(accounts: Accounts, device_secrets: DeviceSecrets, devices: int) -> list[Issued]:
    account = uuid4()
    made: list[Issued] = []
    for _ in range(devices):
        issued = device_secrets.issue()
        secret = Secret(issued.salt, issued.hash)
        registration = secrets.randbelow(REGISTRATION_IDS) + 1
        if not made:
            device = await accounts.create(account.bytes, registration, secret)
        else:
            added = await accounts.add_device(account.bytes, registration, secret, devices)
            if added is None:
                raise StoreUnavailable("the account changed meanwhile")
            device = added
        made.append(Issued(account, device.number, issued.plain))
    return made
