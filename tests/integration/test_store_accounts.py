"""Accounts and devices: what delivery is told, and that every change is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest

from tests.contract.message_store import contents, mailboxes, submission
from tests.integration.store_gates import SECRET, PostgresWorld, opened
from veredus.core.errors import Code, VeredusError
from veredus.core.model import Account, CredentialRow, Verdict
from veredus.server.store.accounts import Secret


@pytest.fixture
async def world(database: str) -> AsyncIterator[PostgresWorld]:
    async with opened(database) as world:
        yield world


async def read(world: PostgresWorld, account: Account) -> Account | None:
    return (await world.postgres.directory.accounts([account.uuid])).get(account.uuid)


async def test_one_question_tells_many_accounts_with_their_devices(world: PostgresWorld) -> None:
    one, two = await world.account(), await world.account(devices=3)
    found = await world.postgres.directory.accounts([two.uuid, one.uuid, uuid4().bytes, one.uuid, b"short"])
    assert found == {one.uuid: one, two.uuid: two}
    assert sorted(two.devices) == [1, 2, 3]
    assert len({device.id for device in [*one.devices.values(), *two.devices.values()]}) == 4
    assert await world.postgres.directory.accounts([]) == {}


async def test_an_account_is_made_once(world: PostgresWorld) -> None:
    account = await world.account()
    with pytest.raises(VeredusError) as caught:
        await world.postgres.accounts.create(account.uuid, 1, SECRET)
    assert caught.value.code is Code.INVALID_REQUEST


async def test_every_change_of_devices_moves_the_version_and_refuses_sends_for_the_old(world: PostgresWorld) -> None:
    accounts = world.postgres.accounts
    account = await world.account(devices=2)
    changes: list[Callable[[], Awaitable[object]]] = [
        lambda: accounts.add_device(account.uuid, 5, SECRET, 6),
        lambda: accounts.replace_device(account.uuid, 1, 6, SECRET),
        lambda: accounts.revoke_device(account.uuid, 2),
        lambda: accounts.disable(account.uuid),
    ]
    for change in changes:
        before = await read(world, account)
        assert before is not None
        assert await change()
        after = await read(world, account)
        assert after is None or after.devices_version > before.devices_version
        [outcome] = await world.store.commit([submission(before)])
        assert outcome.verdict is Verdict.STALE_DEVICES


async def test_a_device_registered_anew_has_its_number_and_another_mailbox(world: PostgresWorld) -> None:
    account = await world.account()
    [outcome] = await world.store.commit([submission(account)])
    assert outcome.verdict is Verdict.COMMITTED
    device = await world.postgres.accounts.replace_device(account.uuid, 1, 99, SECRET)
    assert device is not None
    assert (device.number, device.registration_id) == (1, 99)
    now = await read(world, account)
    assert now is not None
    assert now.devices == {1: device}
    assert device.id not in mailboxes(account)
    assert await contents(world.store, device.id) == []


async def test_devices_get_the_lowest_free_number_up_to_the_limit(world: PostgresWorld) -> None:
    accounts = world.postgres.accounts
    account = await world.account(devices=3)
    assert await accounts.revoke_device(account.uuid, 2)
    again = await accounts.add_device(account.uuid, 5, SECRET, 3)
    assert again is not None
    assert again.number == 2
    assert again.id not in mailboxes(account)
    assert await accounts.add_device(account.uuid, 5, SECRET, 3) is None


async def test_devices_added_at_once_get_different_numbers(world: PostgresWorld) -> None:
    account = await world.account()
    async with opened(world.dsn) as other:
        made = await asyncio.gather(*[(world, other)[n % 2].postgres.accounts.add_device(account.uuid, n, SECRET, 6) for n in range(5)])
    assert sorted(device.number for device in made if device) == [2, 3, 4, 5, 6]


async def test_nobody_s_account_has_nothing_to_change(world: PostgresWorld) -> None:
    accounts, nobody = world.postgres.accounts, uuid4().bytes
    assert await accounts.add_device(nobody, 1, SECRET, 6) is None
    assert await accounts.replace_device(nobody, 1, 1, SECRET) is None
    assert not await accounts.revoke_device(nobody, 1)
    assert not await accounts.disable(nobody)
    account = await world.account()
    assert not await accounts.revoke_device(account.uuid, 7)
    assert await accounts.replace_device(account.uuid, 7, 1, SECRET) is None


async def test_credentials_are_those_of_the_newest_registration(world: PostgresWorld) -> None:
    account = await world.account(devices=2)
    directory, device = world.postgres.directory, account.devices[1]
    assert await directory.credential(account.uuid, 1) == CredentialRow(account.id, device.id, SECRET.salt, SECRET.hash)
    anew = await world.postgres.accounts.replace_device(account.uuid, 1, 5, Secret(b"other salt", b"other hash"))
    assert anew is not None
    assert await directory.credential(account.uuid, 1) == CredentialRow(account.id, anew.id, b"other salt", b"other hash")
    found = await directory.credentials([(account.uuid, 1), (account.uuid, 2), (account.uuid, 3), (uuid4().bytes, 1)])
    assert set(found) == {(account.uuid, 1), (account.uuid, 2)}


async def test_credentials_of_revoked_devices_and_disabled_accounts_say_so(world: PostgresWorld) -> None:
    account = await world.account(devices=2)
    directory = world.postgres.directory
    await world.postgres.accounts.revoke_device(account.uuid, 2)
    revoked, active = await directory.credential(account.uuid, 2), await directory.credential(account.uuid, 1)
    assert revoked is not None
    assert active is not None
    assert (revoked.revoked, active.revoked) == (True, False)
    await world.postgres.accounts.disable(account.uuid)
    ended = await directory.credential(account.uuid, 1)
    assert ended is not None
    assert ended.revoked


@pytest.mark.parametrize("device", [0, -1, 2**31, 2**80])
async def test_a_device_number_nobody_can_have_is_nobody(world: PostgresWorld, device: int) -> None:
    account = await world.account()
    assert await world.postgres.directory.credential(account.uuid, device) is None
    assert await world.postgres.directory.credential(b"short", 1) is None
