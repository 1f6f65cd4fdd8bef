"""The checker passes a server that keeps the promises and catches every planted fault."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checker.check import Violation, check
from tests.fakes.faulty import Fault
from tests.fakes.script import Stage

# One step: which of STEPS, whose turn, a count, two flags.
Step = tuple[int, int, int, bool, bool]
STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 4), st.booleans(), st.booleans()), max_size=60)

# Wherever these strike, some client must see it. The others could be hidden by a lost answer, so they strike when none gets lost.
SEEN_ANYWHERE = (
    Fault.LOSE_ROW,
    Fault.DOUBLE,
    Fault.REPEAT_TAG,
    Fault.SKIP_TAG,
    Fault.TWICE,
    Fault.CHANGE_CONTENT,
    Fault.FALSE_DRAINED,
    Fault.WRONG_SOURCE,
    Fault.WRONG_DEVICE,
)

# What the checker must find, at least.
PROMISE = {
    Fault.LOSE_ROW: "P2",
    Fault.FORGET_DELIVERED: "P2",
    Fault.DOUBLE: "P3",
    Fault.REORDER: "P4",
    Fault.EARLY_ACKNOWLEDGEMENT: "P2",
    Fault.DELIVER_REFUSED: "P2",
    Fault.WRONG_DEVICE: "P2",
    Fault.OTHER_ANSWER: "P3",
    Fault.OTHER_GUID: "P3",
    Fault.ACCEPT_OTHER_BODY: "P3",
    Fault.REFUSE_REPEAT: "P3",
    Fault.SKIP_WAKE_UP: "P5",
    Fault.REPEAT_TAG: "P4",
    Fault.SKIP_TAG: "P4",
    Fault.TWICE: "P3",
    Fault.CHANGE_CONTENT: "P2",
    Fault.OVERTAKE: "P4",
    Fault.RESURRECT: "P3",
    Fault.ANSWER_TWICE: "P3",
    Fault.FALSE_DRAINED: "P4",
    Fault.WRONG_SOURCE: "P2",
}


def play(stage: Stage, steps: list[Step]) -> None:
    for what, who, count, flag, other in steps:
        player = stage.players[who]
        match what:
            case 0 | 1:
                stage.send(player, count, both=flag, big=other and count == 4)
            case 2:
                stage.repeat(player, count, other_body=flag)
            case 3 | 4:
                stage.look(player, count)
            case 5:
                stage.receive(player, count)
            case 6:
                stage.acknowledge(player, count, up_to=flag, confirmed=other)
            case 7:
                stage.drop(player, count)
            case 8:
                stage.model.busy = flag
            case _:
                if flag and other:
                    stage.crash()


def give_every_fault_its_chance(stage: Stage) -> None:
    """The same few steps after any prefix: sends, a refusal of each kind, repeats, an overtaking, deliveries, acknowledgements."""
    stage.settle()
    stage.model.armed = True
    sender, receiver = stage.players[0], stage.players[2]
    for big in (False, False, True):
        stage.send(sender, to=1, both=True, big=big)
        stage.look(sender)
    stage.connect(sender)
    stage.repeat(sender, len(sender.answered) - 1, other_body=False)
    stage.look(sender)
    stage.repeat(sender, len(sender.answered) - 1, other_body=True)
    stage.look(sender)
    stage.model.busy = True
    for _ in range(2):
        stage.send(sender, to=1, both=True)
    stage.look(sender)
    stage.model.busy = False
    stage.look(sender)
    stage.receive(stage.players[3], 1)  # which never acknowledges
    stage.receive(receiver, 1)
    stage.acknowledge(receiver, 1, up_to=False, confirmed=True)
    stage.drop(receiver, 0)
    stage.settle()


def violations_of(stage: Stage) -> list[Violation]:
    return check(stage.history, stage.model.held())


@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_a_server_that_keeps_the_promises_passes(steps: list[Step]) -> None:
    stage = Stage()
    play(stage, steps)
    give_every_fault_its_chance(stage)
    assert [str(violation) for violation in violations_of(stage)] == []


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_a_planted_fault_is_caught_whatever_happened_before(fault: Fault, steps: list[Step]) -> None:
    stage = Stage(fault)
    play(stage, steps)
    give_every_fault_its_chance(stage)
    assert stage.model.struck
    assert PROMISE[fault] in {violation.promise for violation in violations_of(stage)}


@pytest.mark.parametrize("fault", SEEN_ANYWHERE, ids=lambda fault: fault.name.lower())
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_a_planted_fault_is_caught_wherever_it_strikes(fault: Fault, steps: list[Step]) -> None:
    stage = Stage(fault)
    stage.model.armed = True
    play(stage, steps)
    give_every_fault_its_chance(stage)
    assert stage.model.struck
    assert PROMISE[fault] in {violation.promise for violation in violations_of(stage)}
