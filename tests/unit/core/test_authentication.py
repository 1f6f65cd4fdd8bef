"""The Authorization header: which are understood, and that every other is refused alike."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veredus.core.errors import Code, PeerError
from veredus.core.identity.authentication import HEADER_CHARACTERS, Authenticator
from veredus.core.model import Principal

ALICE = Principal(account=b"a" * 16, device=1, account_id=1, device_id=2)


class OneUser:
    """Knows `user:pass:word` and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def basic(self, username: str, password: str) -> Principal | None:
        self.asked.append((username, password))
        return ALICE if (username, password) == ("user", "pass:word") else None


def basic(text: str, scheme: str = "Basic") -> str:
    return f"{scheme} {b64encode(text.encode()).decode()}"


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "Basic "])
async def test_a_basic_header_is_split_at_its_first_colon(scheme: str) -> None:
    assert await Authenticator(OneUser()).authenticate(basic("user:pass:word", scheme)) is ALICE


BROKEN = [
    None,
    "",
    "Basic",
    "Basic ",
    "Basic !!!!",
    "Basic dXNlcjpwYXNz=",
    "Basic dXNlcjpwYXNz\n",
    "Basic //79",
    "Basic é",
    basic("user"),
    basic("user:wrong"),
    "Bearer abc",
    "Digest abc",
    "Basic " + "A" * (HEADER_CHARACTERS + 4),
]


@pytest.mark.requirement("MSG-3")
@pytest.mark.parametrize("header", BROKEN)
async def test_every_other_header_is_refused_in_the_same_words(header: str | None) -> None:
    with pytest.raises(PeerError) as caught:
        await Authenticator(OneUser()).authenticate(header)
    assert (caught.value.code, str(caught.value)) == (Code.UNAUTHENTICATED, str(PeerError(Code.UNAUTHENTICATED)))


async def test_a_name_without_a_colon_is_not_taken_for_one_with_an_empty_password() -> None:
    user = OneUser()
    with pytest.raises(PeerError):
        await Authenticator(user).authenticate(basic("user"))
    assert user.asked == []


@given(st.text())
def test_no_header_makes_anything_but_a_refusal(header: str) -> None:
    for attempt in (header, f"Basic {header}"):
        coroutine = Authenticator(OneUser()).authenticate(attempt)
        with pytest.raises(PeerError):
            coroutine.send(None)
