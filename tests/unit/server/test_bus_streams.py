"""Numbers of streams: whatever a channel does to frames, a loss is seen and nothing is taken twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from veredus.server.cluster.bus_counters import BusCounters
from veredus.server.cluster.bus_frames import Frame, Heartbeat
from veredus.server.cluster.bus_streams import Heard, Numbers, Sources


def sources(most: int = 10) -> Sources:
    return Sources("me", most, BusCounters())


def frame(number: int, source: str = "a", incarnation: str = "1") -> Frame:
    return Frame(source, incarnation, number, [])


def heartbeat(last: int, source: str = "a", *, leaving: bool = False, incarnation: str = "1") -> Heartbeat:
    return Heartbeat(source, incarnation, {"me": last, "another": 77}, leaving)


@given(st.data())
def test_whatever_is_lost_doubled_or_late_is_found_out_by_the_next_heartbeat(data: st.DataObject) -> None:
    sent = data.draw(st.integers(0, 8))
    came = data.draw(st.lists(st.integers(1, sent), max_size=12)) if sent else []
    heard = sources()
    fresh = [(number, heard.frame(frame(number), 0.0)) for number in came]
    last = heard.heartbeat(heartbeat(sent), 0.0)
    taken = [number for number, word in fresh if word.fresh]
    lost = any(word.lost for _, word in fresh) or last.lost
    assert taken == sorted(set(taken))
    assert lost == (taken != list(range(1, sent + 1)))


def test_nothing_is_missed_by_whoever_knew_nothing_of_a_source_that_sent_nothing_here() -> None:
    assert sources().heartbeat(Heartbeat("a", "1", {"another": 5}), 0.0) == Heard(True, False)


def test_after_a_break_the_next_number_is_right_whatever_it_is_and_then_counting_goes_on() -> None:
    heard = sources()
    heard.frame(frame(1), 0.0)
    heard.begin_anew(1.0)
    assert heard.frame(frame(9), 1.0) == Heard(True, False)
    assert heard.frame(frame(11), 1.0) == Heard(True, True)
    heard.begin_anew(1.0)
    assert not heard.heartbeat(heartbeat(20), 1.0).lost
    assert heard.frame(frame(21), 1.0) == Heard(True, False)


def test_a_new_life_counts_from_one_and_is_a_loss_unless_goodbye_was_said() -> None:
    heard = sources()
    heard.frame(frame(1), 0.0)
    assert heard.frame(frame(1, incarnation="2"), 0.0) == Heard(True, True)
    heard.heartbeat(heartbeat(1, incarnation="2", leaving=True), 0.0)
    assert heard.frame(frame(1, incarnation="3"), 0.0) == Heard(True, False)


def test_only_those_are_silent_who_said_nothing_since() -> None:
    heard = sources()
    for at, name in enumerate("abc"):
        heard.heartbeat(heartbeat(0, name), float(at))
    heard.frame(frame(1, "a"), 3.0)
    assert heard.forget_silent(1.0) == 1
    assert [name in heard for name in "abc"] == [True, False, True]
    heard.allow(9.0)
    assert heard.forget_silent(8.0) == 0


def test_names_that_are_made_up_push_out_the_oldest_and_take_no_more_room() -> None:
    heard = sources(most=3)
    for name in "abcdef":
        heard.heartbeat(heartbeat(0, name), 0.0)
    assert len(heard) == 3
    assert "f" in heard
    assert heard.heartbeat(heartbeat(4, "a"), 0.0).lost  # it was forgotten, so it is asked for what it sent


def test_a_stream_that_is_forgotten_never_gives_a_number_again() -> None:
    numbers = Numbers(most_unheard=10)
    given_before = [numbers.next("gone") for _ in range(5)]
    numbers.answered("gone", 0, now=1.0)
    numbers.forget_absent(0.5)
    assert "gone" in numbers.last
    numbers.forget_absent(1.0)
    assert numbers.last == {}
    assert numbers.next("gone") > max(given_before)


def test_a_stream_somebody_listens_to_is_kept() -> None:
    numbers = Numbers(most_unheard=10)
    numbers.next("here")
    numbers.answered("here", 0, now=1.0)
    numbers.answered("here", 1, now=2.0)
    numbers.forget_absent(100.0)
    assert numbers.last == {"here": 1}


def test_streams_nobody_listens_to_are_bounded() -> None:
    numbers = Numbers(most_unheard=3)
    for number in range(10):
        numbers.next(str(number))
        numbers.answered(str(number), 0, now=float(number))
    numbers.forget_absent(-1.0)
    assert list(numbers.last) == ["7", "8", "9"]
