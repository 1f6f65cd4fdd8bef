"""What every MessageStore does, whatever it is made of. Subclass `MessageStoreContract` and override the fixture `world`.

class TestMemoryStore(MessageStoreContract):
    @pytest.fixture
    def world(self) -> World: ...
"""

from __future__ import annotations

from typing import Protocol
from uuid import uuid4

import pytest

from veredus.core.model import Account, Submission, Verdict
from veredus.core.ports import MessageStore
from veredus.ext.envelope import Send

SENDER = 7_000_001  # a device id; the store does not ask whether it exists
NO_LIMIT = 2**30  # for building sends that admission would refuse


class World(Protocol):
    """A store with accounts. `account` makes one; `move` changes its devices and returns it as it is then."""

    store: MessageStore

    async def account(self, devices: int = 1) -> Account: ...

    async def move(self, account: Account) -> Account: ...


def submission(
    recipient: Account, content: bytes = b"hello", *, client_id: bytes | None = None, sender: int = SENDER, sealed: bool = False
) -> Submission:
    """A send of the same content to every device of `recipient`, as admission would hand it on."""
    send = Send.build(
        uuid4().bytes,
        1,
        client_id or uuid4().bytes,
        recipient.uuid,
        6 if sealed else 1,
        1_700_000_000_000,
        True,
        False,
        [(device.number, device.registration_id, content) for device in recipient.devices.values()],
        NO_LIMIT,
        16,
    )
    assert send.code == 0
    targets = tuple(device.id for device in recipient.devices.values())
    return Submission(send, sender, sealed, recipient.id, recipient.devices_version, targets, False)


def mailboxes(account: Account) -> list[int]:
    return [device.id for device in account.devices.values()]


async def contents(store: MessageStore, mailbox: int) -> list[bytes]:
    """The guids in a mailbox, in order."""
    return [row.guid for row in (await store.page(mailbox, 0, [], 1000)).rows]


class MessageStoreContract:
    """The suite."""

    @pytest.fixture
    def world(self) -> World:
        raise NotImplementedError

    # ---- storing -------------------------------------------------------------------------------------------------------------------

    @pytest.mark.requirement("MSG-9", "MSG-31")
    async def test_every_byte_of_an_envelope_comes_back(self, world: World) -> None:
        recipient = await world.account()
        sent = submission(recipient, bytes(range(256)) * 20)
        await world.store.commit([sent])
        page = await world.store.page(mailboxes(recipient)[0], 0, [], 100)
        assert [row.envelope for row in page.rows] == list(sent.send.envelopes)
        assert page.rows[0].guid == sent.send.guid

    async def test_a_send_to_many_devices_is_one_row_in_each_of_their_mailboxes(self, world: World) -> None:
        recipient = await world.account(devices=3)
        sent = submission(recipient)
        [outcome] = await world.store.commit([sent])
        assert outcome.verdict is Verdict.COMMITTED
        assert outcome.guid == sent.send.guid
        assert outcome.server_timestamp > 0
        for mailbox, row_id in zip(sent.targets, outcome.ids, strict=True):
            assert [row.id for row in (await world.store.page(mailbox, 0, [], 10)).rows] == [row_id]

    @pytest.mark.requirement("SYN-3")
    async def test_ids_follow_the_order_of_the_batch_and_pages_the_order_of_ids(self, world: World) -> None:
        recipient = await world.account(devices=2)
        batch = [submission(recipient, sender=SENDER + number % 3) for number in range(50)]
        outcomes = await world.store.commit(batch)
        ids = [row_id for outcome in outcomes for row_id in outcome.ids]
        assert ids == sorted(ids)
        assert len(set(ids)) == 100
        for mailbox in mailboxes(recipient):
            assert await contents(world.store, mailbox) == [each.send.guid for each in batch]

    async def test_a_later_batch_has_larger_ids(self, world: World) -> None:
        recipient = await world.account()
        [first] = await world.store.commit([submission(recipient)])
        [second] = await world.store.commit([submission(recipient)])
        assert first.ids[0] < second.ids[0]
        assert first.server_timestamp <= second.server_timestamp

    async def test_an_empty_batch_is_answered_with_nothing(self, world: World) -> None:
        assert await world.store.commit([]) == []

    async def test_what_the_store_cannot_take_costs_nobody_else_his_message(self, world: World) -> None:
        recipient = await world.account()
        batch = [submission(recipient) for _ in range(9)]
        batch[4] = submission(recipient, bytes(300_000))
        outcomes = await world.store.commit(batch)
        assert [outcome.verdict for outcome in outcomes] == [Verdict.COMMITTED] * 4 + [Verdict.REFUSED] + [Verdict.COMMITTED] * 4
        assert await contents(world.store, mailboxes(recipient)[0]) == [each.send.guid for each in batch if each is not batch[4]]

    # ---- repeats -------------------------------------------------------------------------------------------------------------------

    @pytest.mark.requirement("MSG-25")
    @pytest.mark.parametrize("sealed", [False, True])
    async def test_a_resend_gets_the_first_answer_and_makes_no_second_message(self, world: World, sealed: bool) -> None:
        recipient = await world.account()
        first = submission(recipient, sealed=sealed)
        again = submission(recipient, client_id=first.send.client_id, sealed=sealed)
        [answer] = await world.store.commit([first])
        [repeat] = await world.store.commit([again])
        assert repeat.verdict is Verdict.REPEATED
        assert (repeat.guid, repeat.server_timestamp, repeat.needs_sync) == (answer.guid, answer.server_timestamp, answer.needs_sync)
        assert await contents(world.store, mailboxes(recipient)[0]) == [first.send.guid]

    @pytest.mark.requirement("MSG-25")
    @pytest.mark.parametrize("sealed", [False, True])
    async def test_a_resend_after_the_acknowledgement_makes_no_second_message(self, world: World, sealed: bool) -> None:
        recipient = await world.account()
        sent = submission(recipient, sealed=sealed)
        [answer] = await world.store.commit([sent])
        await world.store.remove([(sent.targets[0], answer.ids[0])])
        [repeat] = await world.store.commit([sent])
        assert (repeat.verdict, repeat.guid) == (Verdict.REPEATED, answer.guid)
        assert await contents(world.store, mailboxes(recipient)[0]) == []

    @pytest.mark.parametrize("sealed", [False, True])
    async def test_the_same_id_with_another_body_is_a_mismatch_and_stores_nothing(self, world: World, sealed: bool) -> None:
        recipient = await world.account()
        first = submission(recipient, sealed=sealed)
        await world.store.commit([first])
        [outcome] = await world.store.commit([submission(recipient, b"other", client_id=first.send.client_id, sealed=sealed)])
        assert outcome.verdict is Verdict.MISMATCH
        assert await contents(world.store, mailboxes(recipient)[0]) == [first.send.guid]

    async def test_the_same_id_from_another_sender_is_another_message(self, world: World) -> None:
        recipient = await world.account()
        first = submission(recipient)
        second = submission(recipient, client_id=first.send.client_id, sender=SENDER + 1)
        outcomes = await world.store.commit([first, second])
        assert [outcome.verdict for outcome in outcomes] == [Verdict.COMMITTED] * 2

    async def test_a_batch_of_old_and_new_is_answered_each_in_its_place(self, world: World) -> None:
        recipient = await world.account()
        gone = await world.account()
        await world.move(gone)
        known, new, last = submission(recipient), submission(recipient), submission(recipient)
        await world.store.commit([known])
        other = submission(recipient, b"other", client_id=known.send.client_id, sender=SENDER + 1)
        await world.store.commit([submission(recipient, b"body", client_id=known.send.client_id, sender=SENDER + 1)])
        outcomes = await world.store.commit([new, known, submission(gone), other, last])
        assert [outcome.verdict for outcome in outcomes] == [
            Verdict.COMMITTED,
            Verdict.REPEATED,
            Verdict.STALE_DEVICES,
            Verdict.MISMATCH,
            Verdict.COMMITTED,
        ]
        assert outcomes[0].ids < outcomes[4].ids
        rows = (await world.store.page(mailboxes(recipient)[0], 0, [], 100)).rows
        assert {row.id: row.guid for row in rows if row.id in (*outcomes[0].ids, *outcomes[4].ids)} == {
            outcomes[0].ids[0]: new.send.guid,
            outcomes[4].ids[0]: last.send.guid,
        }

    # ---- devices -------------------------------------------------------------------------------------------------------------------

    async def test_a_send_for_devices_that_changed_since_is_stale_and_stores_nothing(self, world: World) -> None:
        old = await world.account()
        await world.move(old)
        [outcome] = await world.store.commit([submission(old)])
        assert outcome.verdict is Verdict.STALE_DEVICES
        assert await contents(world.store, mailboxes(old)[0]) == []

    async def test_a_stale_send_left_no_key_and_goes_through_with_the_devices_of_now(self, world: World) -> None:
        old = await world.account()
        new = await world.move(old)
        stale = submission(old)
        await world.store.commit([stale])
        [outcome] = await world.store.commit([submission(new, client_id=stale.send.client_id)])
        assert outcome.verdict is Verdict.COMMITTED

    @pytest.mark.requirement("MSG-25")
    async def test_a_resend_gets_its_answer_also_when_the_devices_have_changed_since(self, world: World) -> None:
        old = await world.account()
        sent = submission(old)
        [answer] = await world.store.commit([sent])
        await world.move(old)
        [repeat] = await world.store.commit([sent])
        assert (repeat.verdict, repeat.guid) == (Verdict.REPEATED, answer.guid)

    # ---- pages ---------------------------------------------------------------------------------------------------------------------

    async def test_an_empty_page_is_short_and_carries_its_snapshot(self, world: World) -> None:
        recipient = await world.account()
        page = await world.store.page(mailboxes(recipient)[0], 0, [], 100)
        assert page.rows == ()
        assert page.short
        assert 0 < page.xmin <= page.xmax

    async def test_a_page_begins_above_the_floor_leaves_out_what_it_is_told_and_ends_at_the_limit(self, world: World) -> None:
        recipient = await world.account()
        mailbox = mailboxes(recipient)[0]
        ids = [outcome.ids[0] for outcome in await world.store.commit([submission(recipient) for _ in range(6)])]
        page = await world.store.page(mailbox, ids[0], [ids[2]], 3)
        assert [row.id for row in page.rows] == [ids[1], ids[3], ids[4]]
        assert not page.short
        page = await world.store.page(mailbox, ids[0], [ids[2]], 5)
        assert [row.id for row in page.rows] == [ids[1], ids[3], ids[4], ids[5]]
        assert page.short

    async def test_a_full_page_is_not_short_even_when_it_was_the_last(self, world: World) -> None:
        recipient = await world.account()
        await world.store.commit([submission(recipient) for _ in range(2)])
        assert not (await world.store.page(mailboxes(recipient)[0], 0, [], 2)).short

    async def test_a_mailbox_shows_nothing_of_another(self, world: World) -> None:
        one, other = await world.account(), await world.account()
        await world.store.commit([submission(one)])
        assert await contents(world.store, mailboxes(other)[0]) == []

    # ---- removing ------------------------------------------------------------------------------------------------------------------

    @pytest.mark.requirement("SYN-8")
    async def test_removing_names_rows_and_touches_no_other(self, world: World) -> None:
        recipient, other = await world.account(), await world.account()
        mailbox = mailboxes(recipient)[0]
        ids = [outcome.ids[0] for outcome in await world.store.commit([submission(recipient) for _ in range(4)])]
        [kept] = await world.store.commit([submission(other)])
        # The last name is of a row that is another device's.
        assert await world.store.remove([(mailbox, ids[2]), (mailbox, ids[0]), (mailbox, kept.ids[0])]) == 2
        assert [row.id for row in (await world.store.page(mailbox, 0, [], 10)).rows] == [ids[1], ids[3]]
        assert len(await contents(world.store, mailboxes(other)[0])) == 1

    async def test_removing_again_is_harmless(self, world: World) -> None:
        recipient = await world.account()
        [outcome] = await world.store.commit([submission(recipient)])
        rows = [(mailboxes(recipient)[0], outcome.ids[0])]
        assert await world.store.remove(rows) == 1
        assert await world.store.remove(rows) == 0
        assert await world.store.remove([]) == 0

    async def test_removing_by_guid_takes_one_device_s_row_only(self, world: World) -> None:
        recipient = await world.account(devices=2)
        sent = submission(recipient)
        await world.store.commit([sent])
        one, other = mailboxes(recipient)
        assert await world.store.remove_guid(one, sent.send.guid)
        assert not await world.store.remove_guid(one, sent.send.guid)
        assert await contents(world.store, other) == [sent.send.guid]

    async def test_the_epoch_stays_the_same(self, world: World) -> None:
        assert await world.store.epoch() == await world.store.epoch()

    @pytest.mark.requirement("SYN-2")
    async def test_a_page_ends_by_bytes_and_says_that_there_is_more(self, world: World) -> None:
        recipient = await world.account()
        [mailbox] = mailboxes(recipient)
        await world.store.commit([submission(recipient, bytes(200_000)) for _ in range(12)])
        page = await world.store.page(mailbox, 0, [], 100)
        assert 1 <= len(page.rows) < 12
        assert not page.short
        rest = await world.store.page(mailbox, page.rows[-1].id, [], 100)
        assert rest.rows
