"""Device secrets: what is kept of them, who is let in, and what nobody can learn."""

from __future__ import annotations

import asyncio
import gc
from base64 import b32decode
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veredus.core.errors import StoreUnavailable
from veredus.core.identity.credentials import DeviceCredentials, DeviceSecrets, parse_username
from veredus.core.limits import Limits
from veredus.core.model import CredentialRow, Principal

PEPPER = b"p" * 32
ALICE = uuid4()


class ManualClock:
    """Time moves when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Rows:
    """Stored rows with a gate: a read waits until it is open."""

    def __init__(self, rows: dict[tuple[bytes, int], CredentialRow]) -> None:
        self.rows = rows
        self.reads = 0
        self.open = asyncio.Event()
        self.open.set()
        self.begun = asyncio.Event()
        self.failure: Exception | None = None

    async def credential(self, account: bytes, device: int) -> CredentialRow | None:
        self.reads += 1
        row = self.rows.get((account, device))
        self.begun.set()
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return row


class CountingSecrets(DeviceSecrets):
    """Counts the hashes that verifying costs."""

    hashes = 0

    def _hash(self, password: str, salt: bytes) -> bytes:
        self.hashes += 1
        return super()._hash(password, salt)


class World:
    """One account with device 1 (and a revoked device 2), and the credentials under test."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = ManualClock()
        self.secrets = CountingSecrets(PEPPER)
        first, second = self.secrets.issue(), self.secrets.issue()
        self.password, self.revoked_password = first.plain, second.plain
        self.rows = Rows(
            {
                (ALICE.bytes, 1): CredentialRow(11, 101, first.salt, first.hash),
                (ALICE.bytes, 2): CredentialRow(11, 102, second.salt, second.hash, revoked=True),
            }
        )
        self.credentials = DeviceCredentials(self.rows, self.secrets, limits or Limits(), self.clock)
        self.secrets.hashes = 0

    async def login(self) -> Principal | None:
        return await self.credentials.basic(str(ALICE), self.password)


def test_an_issued_secret_has_160_bits_and_matches_its_own_row_only() -> None:
    secrets = DeviceSecrets(PEPPER)
    one, other = secrets.issue(), secrets.issue()
    assert len(b32decode(one.plain)) == 20
    assert one.plain != other.plain
    assert one.salt != other.salt
    assert secrets.matches(CredentialRow(1, 1, one.salt, one.hash), one.plain)
    assert not secrets.matches(CredentialRow(1, 1, one.salt, one.hash), other.plain)
    assert not secrets.matches(CredentialRow(1, 1, other.salt, one.hash), one.plain)


def test_a_stored_hash_is_worthless_without_the_pepper() -> None:
    issued = DeviceSecrets(PEPPER).issue()
    assert not DeviceSecrets(b"q" * 32).matches(CredentialRow(1, 1, issued.salt, issued.hash), issued.plain)


@pytest.mark.parametrize("pepper", [b"", b"p" * 31, b"p" * 65])
def test_a_pepper_that_is_too_short_or_too_long_is_refused_at_the_start(pepper: bytes) -> None:
    with pytest.raises(ValueError, match="pepper must have"):
        DeviceSecrets(pepper)


@pytest.mark.parametrize("salt", [b"", b"short", b"s" * 17])
def test_a_damaged_row_matches_nothing_and_raises_nothing(salt: bytes) -> None:
    issued = DeviceSecrets(PEPPER).issue()
    assert not DeviceSecrets(PEPPER).matches(CredentialRow(1, 1, salt, issued.hash[:5]), issued.plain)


@pytest.mark.requirement("MSG-3")
async def test_the_right_password_yields_account_and_device() -> None:
    world = World()
    expected = Principal(account=ALICE.bytes, device=1, account_id=11, device_id=101)
    assert await world.credentials.basic(str(ALICE), world.password) == expected
    assert await world.credentials.basic(f"{ALICE}.1", world.password) == expected


@pytest.mark.requirement("MSG-3")
@pytest.mark.parametrize("case", ["unknown account", "unknown device", "revoked device", "wrong password", "empty password"])
async def test_every_wrong_credential_costs_one_read_and_one_hash_and_gives_the_same_answer(case: str) -> None:
    world = World()
    username, password = {
        "unknown account": (f"{uuid4()}.1", world.password),
        "unknown device": (f"{ALICE}.3", world.password),
        "revoked device": (f"{ALICE}.2", world.revoked_password),
        "wrong password": (f"{ALICE}.1", world.password[::-1]),
        "empty password": (f"{ALICE}.1", ""),
    }[case]
    for attempt in (1, 2):
        assert await world.credentials.basic(username, password) is None
        assert (world.rows.reads, world.secrets.hashes) == (attempt, attempt)


async def test_a_verified_credential_is_not_read_again_until_it_expires() -> None:
    world = World()
    for _ in range(3):
        assert await world.login() is not None
    assert (world.rows.reads, world.secrets.hashes) == (1, 1)
    world.clock.seconds += Limits().credential_cache_seconds
    assert await world.login() is not None
    assert world.rows.reads == 2


async def test_a_wrong_password_is_not_let_in_by_the_cache_and_does_not_empty_it() -> None:
    world = World()
    assert await world.login() is not None
    assert await world.credentials.basic(str(ALICE), "wrong") is None
    assert world.rows.reads == 2
    assert await world.login() is not None
    assert world.rows.reads == 2


@pytest.mark.parametrize("device", [1, None])
async def test_a_revoked_device_is_refused_as_soon_as_it_is_forgotten(device: int | None) -> None:
    world = World()
    assert await world.login() is not None
    name = (ALICE.bytes, 1)
    world.rows.rows[name] = msgspec.structs.replace(world.rows.rows[name], revoked=True)
    assert await world.login() is not None, "the cache is what this test is about"
    world.credentials.forget(ALICE.bytes, device)
    assert await world.login() is None


async def test_forgetting_everything_forgets_everyone() -> None:
    world = World()
    assert await world.login() is not None
    world.rows.rows.clear()
    world.credentials.forget_all()
    assert await world.login() is None


@pytest.mark.parametrize("everyone", [False, True])
async def test_a_read_that_began_before_a_revocation_is_not_believed(everyone: bool) -> None:
    world = World()
    world.rows.open.clear()
    login = asyncio.ensure_future(world.login())
    await world.rows.begun.wait()
    world.rows.rows.clear()
    if everyone:
        world.credentials.forget_all()
    else:
        world.credentials.forget(ALICE.bytes, 1)
    world.rows.open.set()
    assert await login is None
    assert world.rows.reads == 2


async def test_callers_at_the_same_time_share_one_read_and_one_that_leaves_takes_nothing_from_the_rest() -> None:
    world = World()
    world.rows.open.clear()
    logins = [asyncio.ensure_future(world.login()) for _ in range(10)]
    wrong = asyncio.ensure_future(world.credentials.basic(str(ALICE), "wrong"))
    await world.rows.begun.wait()
    logins.pop(0).cancel()
    world.rows.open.set()
    assert all(principal is not None for principal in await asyncio.gather(*logins))
    assert await wrong is None
    assert world.rows.reads == 1


async def test_a_store_that_cannot_be_reached_is_said_and_nothing_of_it_stays() -> None:
    world = World()
    world.rows.failure = StoreUnavailable()
    with pytest.raises(StoreUnavailable):
        await world.login()
    world.rows.failure = None
    assert await world.login() is not None


async def test_the_cache_is_bounded_and_drops_who_was_not_seen_for_longest() -> None:
    world = World(Limits(credential_cache_entries=2))
    names = [uuid4() for _ in range(3)]
    for number, name in enumerate(names):
        issued = world.secrets.issue()
        world.rows.rows[name.bytes, 1] = CredentialRow(number, number, issued.salt, issued.hash)
        names[number], passwords = name, issued.plain
        assert await world.credentials.basic(str(name), passwords) is not None
        assert await world.login() is not None, "seen again each time: never the oldest"
    assert world.rows.reads == 4
    assert len(world.credentials._verified) == 2
    assert await world.login() is not None
    assert world.rows.reads == 4


async def test_the_plain_secret_is_nowhere_in_what_is_kept() -> None:
    world = World()
    credentials, password = world.credentials, world.password
    assert await credentials.basic(str(ALICE), password) is not None
    seen: set[int] = set()
    left: list[object] = [credentials._verified, credentials._reads, credentials._rows.rows]  # type: ignore[attr-defined]
    while left:
        held = left.pop()
        if id(held) in seen or isinstance(held, type):
            continue
        seen.add(id(held))
        assert not (isinstance(held, str) and password in held)
        assert not (isinstance(held, bytes) and password.encode() in held)
        left.extend(gc.get_referents(held))


@given(st.uuids(), st.integers(1, 9999))
def test_a_username_is_read_back_as_it_was_written(account: UUID, device: int) -> None:
    assert parse_username(f"{account}.{device}") == (account.bytes, device)
    assert parse_username(str(account).upper()) == (account.bytes, 1)


@pytest.mark.parametrize("suffix", [".", ".0", ".01", ".-1", ".10000", ".1.1", ".\u0661", " ", "\n", "\0", ".1\n"])
def test_what_only_looks_like_a_username_is_none(suffix: str) -> None:
    assert parse_username(f"{ALICE}{suffix}") is None


@given(st.text())
def test_any_text_as_username_or_password_is_an_answer_and_never_an_exception(text: str) -> None:
    async def ask() -> None:
        world = World()
        assert await world.credentials.basic(text, world.password) is None
        assert await world.credentials.basic(str(ALICE), text) is None

    asyncio.run(ask())
