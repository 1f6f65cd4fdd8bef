"""Derived idempotency keys: the same for the same send, for ever; another for any other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from veredus.core.messaging.client_ids import derived_client_id

sends = st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1), st.binary(min_size=16, max_size=16))


def test_a_key_never_changes_from_one_release_to_the_next() -> None:
    assert derived_client_id(bytes(16), 1_764_000_000_000, bytes(16)).hex() == "e7d85a2a1cb09dd8fd6cc28737a66910"


@given(sends, sends)
def test_two_sends_share_a_key_only_when_they_are_one(one: tuple[bytes, int, bytes], other: tuple[bytes, int, bytes]) -> None:
    assert len(derived_client_id(*one)) == 16
    assert (derived_client_id(*one) == derived_client_id(*other)) is (one == other)
