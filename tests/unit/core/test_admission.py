"""Types by device: what the core makes of a send whose contents are of several types, or say theirs in several ways."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.unit.core.delivering import RecordingOrigin, World, running, send, until
from veredus.core.errors import Code
from veredus.core.messaging.admission import judge
from veredus.core.model import EnvelopeType, Submission
from veredus.ext.envelope import Send
from veredus.ext.frames import parse_envelope

UNKNOWN, CIPHERTEXT, PREKEY_BUNDLE, SEALED, PLAINTEXT = (
    EnvelopeType.UNKNOWN,
    EnvelopeType.CIPHERTEXT,
    EnvelopeType.PREKEY_BUNDLE,
    EnvelopeType.SEALED,
    EnvelopeType.PLAINTEXT,
)


@pytest.mark.parametrize(
    ("type", "types", "sealed"),
    [
        (SEALED, (), True),
        (SEALED, (UNKNOWN, SEALED), True),
        (UNKNOWN, (SEALED, SEALED), True),
        (CIPHERTEXT, (SEALED, SEALED), True),
        (CIPHERTEXT, (), False),
        (UNKNOWN, (CIPHERTEXT, PREKEY_BUNDLE), False),
        (SEALED, (CIPHERTEXT, PREKEY_BUNDLE), False),
    ],
)
def test_a_submission_is_sealed_when_its_contents_are_whatever_the_send_says(type: int, types: Sequence[int], sealed: bool) -> None:
    world = World()
    [alice], [bob, _] = world.account(), world.account(2)
    message = send(alice, bob, devices=(1, 2), type=type, types=types)
    submission = judge(message, alice, world.store.accounts[bob.account], None)
    assert isinstance(submission, Submission)
    assert submission.sealed == sealed
    assert all((alice.account in envelope) != sealed for envelope in message.envelopes)


async def test_each_device_is_delivered_its_own_type_and_a_repeat_with_others_is_refused() -> None:
    async with running() as world:
        [alice], bobs = world.account(), world.account(3)
        wires = [(await world.online(bob))[1] for bob in bobs]
        origin = RecordingOrigin()
        types = [CIPHERTEXT, PREKEY_BUNDLE, PLAINTEXT]

        def mixed(types: Sequence[int]) -> Send:
            return send(alice, bobs[0], client_id=b"k" * 16, devices=(1, 2, 3), type=UNKNOWN, types=types)

        world.delivery.accept(origin, alice, [mixed(types)])
        await until(lambda: all(wire.deliveries for wire in wires))
        envelopes = [parse_envelope(envelope) for wire in wires for _, envelope, _ in wire.deliveries]
        assert [(one.type, one.source_account) for one in envelopes if one] == [(type, alice.account) for type in types]
        world.delivery.accept(origin, alice, [mixed(types), mixed(types[::-1])])
        await until(lambda: len(origin.replies) == 3)
        assert [reply.code for reply in origin.replies] == [Code.OK, Code.OK, Code.IDEMPOTENCY_MISMATCH]
        assert origin.replies[0].guid == origin.replies[1].guid


@pytest.mark.parametrize("types", [(SEALED, CIPHERTEXT), (PREKEY_BUNDLE, SEALED), (UNKNOWN, CIPHERTEXT), (CIPHERTEXT, 5), (CIPHERTEXT, 99)])
async def test_types_that_cannot_go_together_are_refused_before_the_store(types: Sequence[int]) -> None:
    async with running() as world:
        [alice], [bob, _] = world.account(), world.account(2)
        origin = RecordingOrigin()
        world.delivery.accept(origin, alice, [send(alice, bob, devices=(1, 2), type=UNKNOWN, types=types)])
        await until(lambda: origin.replies)
        assert [reply.code for reply in origin.replies] == [Code.INVALID_TYPE]
        assert world.store.commits == 0
