"""The fakes keep the contracts of what they stand for."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.contract.message_store import MessageStoreContract
from tests.fakes.store import MemoryStore
from veredus.core.model import Account, Device


class MemoryWorld:
    """Accounts in a MemoryStore."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self._devices = 0

    async def account(self, devices: int = 1) -> Account:
        made = {}
        for number in range(1, devices + 1):
            self._devices += 1
            made[number] = Device(self._devices, number, 100 + number)
        account = Account(len(self.store.accounts) + 1, uuid4().bytes, 1, made)
        self.store.accounts[account.uuid] = account
        return account

    async def move(self, account: Account) -> Account:
        moved = Account(account.id, account.uuid, account.devices_version + 1, account.devices)
        self.store.accounts[account.uuid] = moved
        return moved


class TestMemoryStore(MessageStoreContract):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()
