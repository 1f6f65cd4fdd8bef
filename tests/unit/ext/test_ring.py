"""The ring against a model in plain Python, and what it promises: fair shares, few moves, one answer everywhere."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.reference.ring import BITS, ReferenceRing, mixed
from veredus.ext.ring import Ring, key_of

NAMES = st.text(min_size=0, max_size=12).filter(lambda name: not any(0xD800 <= ord(letter) < 0xE000 for letter in name))
MEMBERS = st.dictionaries(NAMES, st.integers(1, 3), min_size=1, max_size=6)
KEYS = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 1000), min_size=1, max_size=50)
# What nobody's share is off by, of what his weight gives him: more than five times the usual, which is 1 / sqrt(512).
BOUND = 0.25
# The model hashes in Python: some milliseconds a member. pytest bounds the whole test.
unhurried = settings(deadline=None, max_examples=25)


@unhurried
@given(MEMBERS, KEYS, st.integers(0, 8))
def test_it_says_what_the_model_says(members: dict[str, int], keys: list[int], count: int) -> None:
    ring, reference = Ring(members), ReferenceRing(members)
    assert [ring.owner(key) for key in keys] == [reference.owner(key) for key in keys]
    assert [ring.owners(key, count) for key in keys] == [reference.owners(key, count) for key in keys]


@unhurried
@given(MEMBERS, st.data())
def test_a_key_at_a_point_belongs_to_it_and_one_behind_the_last_to_the_first(members: dict[str, int], data: st.DataObject) -> None:
    ring, reference = Ring(members), ReferenceRing(members)
    place, name = data.draw(st.sampled_from(reference.points))
    assert ring.owner(unmixed(place)) == name
    behind = (reference.points[-1][0] + 1) % BITS
    assert ring.owner(unmixed(behind)) == reference.points[0][1]


@unhurried
@given(MEMBERS, KEYS, st.data())
def test_when_a_member_leaves_only_its_keys_move_and_when_it_joins_only_to_it(
    members: dict[str, int], keys: list[int], data: st.DataObject
) -> None:
    assume(len(members) > 1)
    leaving = data.draw(st.sampled_from(sorted(members)))
    whole, rest = Ring(members), Ring({name: weight for name, weight in members.items() if name != leaving})
    for key in keys:
        if whole.owner(key) == leaving:
            assert rest.owner(key) == whole.owners(key, 2)[1]
        else:
            assert rest.owner(key) == whole.owner(key)


@unhurried
@given(MEMBERS, KEYS)
def test_a_heavier_member_only_takes_keys(members: dict[str, int], keys: list[int]) -> None:
    name = min(members)
    before, after = Ring(members), Ring(members | {name: members[name] + 1})
    assert {after.owner(key) for key in keys if after.owner(key) != before.owner(key)} <= {name}


@unhurried
@given(MEMBERS)
def test_nobody_s_share_of_the_circle_is_a_quarter_off(members: dict[str, int]) -> None:
    shares = dict.fromkeys(members, 0)
    points = ReferenceRing(members).points
    before = points[-1][0] - BITS
    for place, name in points:
        shares[name] += place - before
        before = place
    for name, weight in members.items():
        fair = BITS * weight / sum(members.values())
        assert abs(shares[name] - fair) <= BOUND * fair or len(members) == 1


@pytest.mark.parametrize("number", [2, 5, 16])
def test_successive_keys_are_shared_fairly(number: int) -> None:
    ring = Ring([f"shard-{n}" for n in range(number)])
    parts = ring.split(range(1, 100_001))
    assert max(abs(len(part) * number / 100_000 - 1) for part in parts) <= BOUND


def test_a_member_that_joins_takes_its_share_and_no_more() -> None:
    names = [f"shard-{n}" for n in range(8)]
    before, after = Ring(names[:-1]), Ring(names)
    moved = sum(before.owner(key) != after.owner(key) for key in range(50_000))
    assert abs(moved * 8 / 50_000 - 1) <= BOUND


@unhurried
@given(MEMBERS, KEYS, st.integers(0, 8))
def test_owners_are_different_members_and_the_owner_is_the_first(members: dict[str, int], keys: list[int], count: int) -> None:
    ring = Ring(members)
    for key in keys:
        found = ring.owners(key, count)
        assert len(set(found)) == len(found) == min(count, len(members))
        assert set(found) <= set(members)
        assert found[:1] == (ring.owner(key),)[:count]


@unhurried
@given(MEMBERS, KEYS)
def test_split_keeps_every_key_in_its_order_with_its_owner(members: dict[str, int], keys: list[int]) -> None:
    ring = Ring(members)
    parts = dict(zip(ring.members, ring.split(keys), strict=True))
    assert parts == {name: [key for key in keys if ring.owner(key) == name] for name in sorted(members)}


@unhurried
@given(MEMBERS, MEMBERS, st.randoms())
def test_signatures_are_equal_exactly_when_the_memberships_are(one: dict[str, int], other: dict[str, int], random: object) -> None:
    shuffled = list(one.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = Ring(dict(shuffled))
    assert (again.signature, again.members, again.weights) == (Ring(one).signature, Ring(one).members, Ring(one).weights)
    assert (Ring(one).signature == Ring(other).signature) is (one == other)
    assert 0 <= again.signature < 2**64


def test_names_alone_weigh_one_each() -> None:
    assert Ring(["b", "a"]).signature == Ring({"a": 1, "b": 1}).signature
    assert Ring(iter(["b", "a"])).members == ("a", "b")


PINNED = (5650668356535040868, [2, 2, 0, 1, 1, 2, 0, 1, 0, 2, 0, 0, 0, 1, 0, 0], 17857371062889703322)


def test_placement_never_changes_between_versions() -> None:
    """Workers of two versions run side by side during a rolling restart."""
    ring = Ring(["one", "two", "three"])
    assert mixed(0) == 0xE220A8397B1DCDAF, "SplitMix64's first number for seed 0, as its authors give it"
    assert (ring.signature, [ring.members.index(ring.owner(key)) for key in range(16)], key_of("one")) == PINNED


@pytest.mark.parametrize(
    "members", [[], {}, ["a", "a"], {"a": 0}, {"a": -1}, {"a": 4_000_000_000}, {"a": 8192, "b": 1}, ["\ud800"]]
)  # fmt: skip
def test_what_is_no_membership_is_refused(members: list[str] | dict[str, int]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  each says it in its own words
        Ring(members)


@pytest.mark.parametrize("members", [None, 7, [1], {"a": "b"}, {"a": 1.5}])
def test_what_is_of_another_type_is_refused(members: object) -> None:
    with pytest.raises((TypeError, AttributeError)):
        Ring(members)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [-1, 2**64])
def test_keys_have_64_bits(key: int) -> None:
    with pytest.raises(OverflowError):
        Ring(["a"]).owner(key)


def unmixed(place: int) -> int:
    """The key that `mixed` takes to a place: it is a bijection."""
    for shift, factor in ((31, pow(0x94D049BB133111EB, -1, BITS)), (27, pow(0xBF58476D1CE4E5B9, -1, BITS))):
        place = undone(place, shift) * factor % BITS
    return (undone(place, 30) - 0x9E3779B97F4A7C15) % BITS


def undone(value: int, shift: int) -> int:
    """The x of value = x ^ x >> shift."""
    found = value
    for _ in range(64 // shift + 1):
        found = value ^ found >> shift
    return found
