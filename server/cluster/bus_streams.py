"""Streams of frames, theirs and ours, by number. Pure state: no I/O, no clock.

Theory of operation. A source numbers its frames for each destination from 1, and says in every heartbeat which numbers it has given. So a
receiver sees what it lacks, even when nothing follows. Numbers are given to what could not be sent as well. A source is known from its
first word until it says goodbye or falls silent; an unknown one is taken to have sent nothing so far.
"""

from __future__ import annotations

from typing import NamedTuple

from veredus.server.cluster.bus_counters import BusCounters
from veredus.server.cluster.bus_frames import Frame, Heartbeat

ANY = -1  # the next number is right whatever it is: what came before it is accounted for


class Heard(NamedTuple):
    """What a word from a source means."""

    fresh: bool  # take it
    lost: bool  # something before it may have been lost


class Source:
    """A worker we hear."""

    __slots__ = ("heard", "incarnation", "last")

    def __init__(self, incarnation: str, heard: float) -> None:
        self.incarnation = incarnation
        self.heard = heard
        self.last = 0


class Sources:
    """The streams that come here."""

    def __init__(self, destination: str, most: int, counters: BusCounters) -> None:
        self._destination = destination
        self._most = most
        self._counters = counters
        self._sources: dict[str, Source] = {}  # whoever spoke last stands last

    def __contains__(self, source: str) -> bool:
        return source in self._sources

    def __len__(self) -> int:
        return len(self._sources)

    def frame(self, frame: Frame, now: float) -> Heard:
        """A frame came. Not fresh: it is doubled or late."""
        source, lost = self._speaking(frame.source, frame.incarnation, now)
        if source.last not in (ANY, frame.number - 1):
            if frame.number <= source.last:
                self._counters.repeated_frames += 1
                return Heard(False, lost)
            self._counters.gaps += 1
            lost = True
        source.last = frame.number
        return Heard(True, lost)

    def heartbeat(self, heartbeat: Heartbeat, now: float) -> Heard:
        """A source says that it lives and what it has sent. Fresh: it was not known."""
        fresh = heartbeat.source not in self._sources
        source, lost = self._speaking(heartbeat.source, heartbeat.incarnation, now)
        last = heartbeat.last.get(self._destination, 0)
        if source.last not in (ANY, last):
            # A number above what its source gave was made up; believing it would make the true ones look late.
            if last > source.last:
                self._counters.gaps += 1
            else:
                self._counters.contradictions += 1
            lost = True
        source.last = last
        if heartbeat.leaving:
            del self._sources[heartbeat.source]
        return Heard(fresh, lost)

    def forget_silent(self, since: float) -> int:
        """How many said nothing after `since`. They are forgotten."""
        silent = []
        for name, source in self._sources.items():
            if source.heard > since:
                break
            silent.append(name)
        for name in silent:
            del self._sources[name]
        self._counters.silences += len(silent)
        return len(silent)

    def allow(self, now: float) -> None:
        """Nobody could be heard until now: silence counts from here."""
        for source in self._sources.values():
            source.heard = now

    def begin_anew(self, now: float) -> None:
        """The same after a break in which anything may have been lost, which is accounted for."""
        self.allow(now)
        for source in self._sources.values():
            source.last = ANY

    def _speaking(self, name: str, incarnation: str, now: float) -> tuple[Source, bool]:
        source = self._sources.pop(name, None)
        restarted = source is not None and source.incarnation != incarnation
        if source is None or restarted:
            self._counters.restarts += restarted
            source = Source(incarnation, now)
            if len(self._sources) >= self._most:
                del self._sources[next(iter(self._sources))]  # found out as a gap if it speaks again
        source.heard = now
        self._sources[name] = source
        return source, restarted


class Numbers:
    """The streams that leave here."""

    def __init__(self, most_unheard: int) -> None:
        self.last: dict[str, int] = {}  # destination → number given last
        self._most_unheard = most_unheard
        self._floor = 0  # higher than any number of a forgotten stream: a stream that begins anew never repeats one
        self._unheard: dict[str, float] = {}

    def next(self, destination: str) -> int:
        """The number of the next frame; it is used from now on."""
        number = self.last[destination] = self.last.get(destination, self._floor) + 1
        return number

    def answered(self, destination: str, listeners: int, now: float) -> None:
        """So many listen there."""
        if listeners:
            self._unheard.pop(destination, None)
        else:
            self._unheard.setdefault(destination, now)

    def forget_absent(self, since: float) -> None:
        """Forget streams that nobody listened to since then, and the oldest of too many."""
        for destination, first in list(self._unheard.items()):
            if first > since and len(self._unheard) <= self._most_unheard:
                break
            del self._unheard[destination]
            self._floor = max(self._floor, self.last.pop(destination, 0))
