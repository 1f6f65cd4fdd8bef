"""SipHash-2-4-128 against known vectors and against a model written from the paper."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.siphash import siphash128 as reference
from veredus.ext.digest import siphash128

KEY = bytes(range(16))
unhurried = settings(deadline=None)  # the machine may be busy; pytest bounds the whole test

# As the authors' implementation and OpenSSL 3.0 (`openssl mac SIPHASH`) give them: the input of n bytes is 0, 1, … n-1.
KNOWN = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    2: "8177228da4a45dc7fca38bdef60affe4",
    3: "9c70b60c5267a94e5f33b6b02985ed51",
    7: "a1f1ebbed8dbc153c0b84aa61ff08239",
    8: "3b62a9ba6258f5610f83e264f31497b4",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
    63: "5150d1772f50834a503e069a973fbd7c",
}


@pytest.mark.parametrize("size", KNOWN)
def test_the_known_vectors_hold(size: int) -> None:
    assert siphash128(KEY, bytes(range(size))).hex() == KNOWN[size]


@pytest.mark.parametrize("size", range(64))
def test_every_length_up_to_63_equals_the_model(size: int) -> None:
    assert siphash128(KEY, bytes(range(size))) == reference(KEY, bytes(range(size)))


@given(key=st.binary(min_size=16, max_size=16), data=st.binary(max_size=300))
@unhurried
def test_any_input_equals_the_model(key: bytes, data: bytes) -> None:
    assert siphash128(key, data) == reference(key, data)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        siphash128(bytes(size), b"")
