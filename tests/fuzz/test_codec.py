"""The codec on hostile bytes: never a crash, and the judgement and the values of the official runtime (`oracle` has the differences).

`VEREDUS_FUZZ_SECONDS` makes the last test run that long; without it the suite runs a short form. A failure prints the input as hex.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import oracle, samples
from tests.fuzz.wiregen import Generator
from tests.proto import envelope as envelope_pb2
from tests.proto import frames as frames_pb2

Compare = Callable[[bytes], bool]

KINDS: list[tuple[Compare, object, dict[str, bytes]]] = [
    (oracle.client_frame, frames_pb2.ClientFrame.DESCRIPTOR, samples.client_frames()),
    (oracle.server_frame, frames_pb2.ServerFrame.DESCRIPTOR, samples.server_frames()),
    (oracle.envelope, envelope_pb2.Envelope.DESCRIPTOR, samples.envelopes()),
]
SAMPLES = [pytest.param(compare, data, id=f"{compare.__name__}: {name}") for compare, _, frames in KINDS for name, data in frames.items()]

every_kind = pytest.mark.parametrize(("compare", "schema"), [pytest.param(kind[0], kind[1], id=kind[0].__name__) for kind in KINDS])
every_sample = pytest.mark.parametrize(("compare", "data"), SAMPLES)
quick = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@every_sample
def test_every_sample_is_accepted(compare: Compare, data: bytes) -> None:
    assert compare(data)


@pytest.mark.requirement("MSG-4")
@every_sample
def test_a_frame_cut_anywhere_is_judged_as_the_official_runtime_judges_it(compare: Compare, data: bytes) -> None:
    for length in range(len(data)):
        compare(data[:length])


@pytest.mark.requirement("MSG-4")
@every_sample
def test_a_frame_with_any_byte_changed_is_judged_as_the_official_runtime_judges_it(compare: Compare, data: bytes) -> None:
    changes = [1 << bit for bit in range(8)] + [0xFF, 0x7F, 0x55]
    for at in range(len(data)):
        for change in changes:
            compare(data[:at] + bytes([data[at] ^ change]) + data[at + 1 :])


@pytest.mark.requirement("MSG-4")
@every_sample
def test_a_frame_with_bytes_put_in_or_taken_out_is_judged_as_the_official_runtime_judges_it(compare: Compare, data: bytes) -> None:
    for at in range(len(data)):
        compare(data[:at] + data[at + 1 :])
        compare(data[:at] + b"\x80" + data[at:])
        compare(data[:at] + data[at : at + 1] * 2 + data[at + 1 :])


@pytest.mark.requirement("MSG-4")
@every_kind
@given(data=st.binary(max_size=64))
@quick
def test_random_bytes_are_judged_as_the_official_runtime_judges_them(compare: Compare, schema: object, data: bytes) -> None:
    compare(data)


@pytest.mark.requirement("MSG-4")
@every_kind
@given(random=st.randoms(use_true_random=False))
@quick
def test_any_order_repetition_and_unknown_field_is_read_as_the_official_runtime_reads_it(
    compare: Compare, schema: object, random: Random
) -> None:
    compare(Generator(random).message(schema))


@pytest.mark.parametrize("compare", [kind[0] for kind in KINDS])
@pytest.mark.parametrize("depth", [99, 100, 101, 1_000_000])
def test_deep_nesting_costs_no_stack(compare: Compare, depth: int) -> None:
    opened, closed = b"\x7b" * depth, b"\x7c" * depth
    assert compare(opened + closed) == (depth <= 100)
    assert not compare(opened)
    assert not compare(closed)


def test_the_fuzzer_runs_its_time_without_a_difference() -> None:
    seconds = float(os.environ.get("VEREDUS_FUZZ_SECONDS", "1"))
    seed = int(os.environ.get("VEREDUS_FUZZ_SEED", str(time.time_ns())))
    end = time.monotonic() + seconds
    accepted = rejected = 0
    random = Random(seed)
    while time.monotonic() < end:
        compare, schema, frames = random.choice(KINDS)
        data = Generator(random, faults=random.choice((0, 0.01, 0.1))).message(schema)
        for mutant in (data, _damaged(random, data), _damaged(random, random.choice(list(frames.values())))):
            if compare(mutant):
                accepted += 1
            else:
                rejected += 1
    print(f"seed {seed}: {accepted} accepted, {rejected} rejected")
    assert accepted
    assert rejected


def _damaged(random: Random, data: bytes) -> bytes:
    mutant = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(mutant) + 1)
        match random.randrange(4):
            case 0:
                mutant[at : at + 1] = random.randbytes(1)
            case 1:
                del mutant[at : at + random.randrange(4)]
            case 2:
                mutant[at:at] = random.randbytes(random.randrange(4))
            case _:
                start = random.randrange(len(mutant) + 1)
                mutant[at:at] = mutant[start : start + random.randrange(40)]
    return bytes(mutant)
