"""`core.ports.Bus` on Redis Pub/Sub: a channel per worker, one for heartbeats. Owns transport of hints, at most once; never the truth.

Theory of operation. A worker listens on one connection, to the server that the ring names for it, and has one to each server to publish
on; so what it sends to a worker keeps its order. Heartbeats go to all servers. Nothing is sent twice and nothing is kept for those who
are away. Instead whoever may have missed something is told to look into the mailboxes: when numbers are missing in a stream, when a worker
begins anew or falls silent, when the subscription broke, when this process stood still, or when something came that nobody can read. While
this worker hears nothing at all it is told again and again. `docs/bus.md` has a picture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import structlog
from redis.asyncio import Redis

from veredus.core.clock import Clock
from veredus.core.model import Item, ItemKind
from veredus.core.ports import BusEvents
from veredus.server.cluster.bus_counters import BusCounters
from veredus.server.cluster.bus_frames import MALFORMED, Channels, Frame, Heartbeat, doorbell, parcels
from veredus.server.cluster.bus_interruptions import Interruptions
from veredus.server.cluster.bus_link import database, dedicated, end
from veredus.server.cluster.bus_publisher import Answers, Post, Publisher
from veredus.server.cluster.bus_streams import Numbers, Sources
from veredus.server.cluster.bus_subscriber import Subscriber
from veredus.server.cluster.bus_timing import BusTiming
from veredus.server.cluster.shards import Shards

Load = tuple[list[Post], list[str]]  # posts of one server, and whom each is for


class Carrier(NamedTuple):
    """One server: the connection that publishes there, and how its channels are called."""

    publisher: Publisher
    channels: Channels


class RedisBus:
    """The bus as one worker sees it: `listen`, `start`, then `publish`; `close` last."""

    def __init__(self, shards: Shards, worker: str, incarnation: str, clock: Clock, timing: BusTiming | None = None) -> None:
        """Speaks for `worker`, in this life of it. Those who share the servers and their database numbers hear each other."""
        self.counters = BusCounters()
        self._worker = worker
        self._incarnation = incarnation
        self._clock = clock
        self._timing = timing = timing or BusTiming()
        self._encode = msgspec.msgpack.Encoder().encode
        self._read_frame = msgspec.msgpack.Decoder(Frame).decode
        self._read_heartbeat = msgspec.msgpack.Decoder(Heartbeat).decode
        self._numbers = Numbers(timing.sources)
        self._sources = Sources(worker, timing.sources, self.counters)
        self._interruptions = Interruptions(timing.calm, self._interrupted)
        self._shards = shards
        self._carriers = {name: self._carrier(client) for name, client in shards.clients.items()}
        mine = shards.of_worker(worker)
        channels = self._carriers[mine].channels
        self._heartbeats = channels.heartbeats.encode()
        link = partial(dedicated, shards.clients[mine])
        self._subscriber = Subscriber(link, (channels.of(worker), channels.heartbeats), self, timing, self.counters)
        self._heard = self._looked = self._beaten = clock.monotonic()
        self._greet = False  # somebody new spoke: he shall know us soon
        self._ticker: asyncio.Task[None] | None = None
        self._events: BusEvents

    def _carrier(self, client: Redis) -> Carrier:
        channels = Channels(f"veredus:{database(client)}")
        return Carrier(Publisher(partial(dedicated, client), partial(self._heartbeat, channels), self._timing, self.counters), channels)

    # ------------------------------------------------------------------------------------------------------------------- lifetime

    def listen(self, events: BusEvents) -> None:
        """Whom to tell. Once, before `start`."""
        self._events = events

    async def start(self) -> None:
        """Listen and make ourselves known, or go on trying beside the rest."""
        self._subscriber.start()
        await self._subscriber.tried.wait()
        for publisher, _ in self._carriers.values():
            publisher.start()
        for publisher, _ in self._carriers.values():
            await publisher.tried.wait()
        self._looked = self._beaten = self._clock.monotonic()
        self._ticker = asyncio.create_task(self._tick())

    async def close(self) -> None:
        """Say goodbye, so that nobody takes us for dead."""
        if self._ticker is not None:
            await end(self._ticker)
        carriers = self._carriers.values()
        await asyncio.gather(*(publisher.publish([self._heartbeat(channels, leaving=True)]) for publisher, channels in carriers))
        for publisher, _ in carriers:
            await publisher.close()
        await self._subscriber.close()
        self._interruptions.close()

    # ------------------------------------------------------------------------------------------------------------------- the port

    async def publish(self, items: Mapping[str, Sequence[Item]]) -> set[str]:
        """See `core.ports.Bus`. One PUBLISH per worker, or as many as its items need."""
        loads: dict[Publisher, Load] = {}
        for worker, for_worker in items.items():
            publisher, channels = self._carriers[self._shards.of_worker(worker)]
            if publisher.away:
                self._numbers.next(worker)  # given to nothing, so that the worker learns that it was not told
                self.counters.failed_frames += 1
                continue
            posts, workers = loads.setdefault(publisher, ([], []))
            for parcel in parcels(for_worker, self._timing, self.counters):
                posts.append((channels.of(worker), self._frame(worker, parcel)))
                workers.append(worker)
        # All handed over before anything is waited for: frames keep the order of their numbers on every connection.
        waiting = [publisher.answers(publisher.hand_over(posts)) for publisher, (posts, _) in loads.items()]
        answers: Sequence[Answers] = [await waiting[0]] if len(waiting) == 1 else await asyncio.gather(*waiting)
        absent: set[str] = set()
        for (_, workers), of_each in zip(loads.values(), answers, strict=True):
            absent |= self._absent(workers, of_each)
        return absent

    def _frame(self, worker: str, parcel: Sequence[Item]) -> bytes:
        self.counters.published_frames += 1
        self.counters.published_items += len(parcel)
        return self._encode((self._worker, self._incarnation, self._numbers.next(worker), parcel))

    def _absent(self, workers: Sequence[str], answers: Sequence[int | None]) -> set[str]:
        absent = set()
        now = self._clock.monotonic()
        for worker, listeners in zip(workers, answers, strict=True):
            if listeners is None:
                self.counters.failed_frames += 1
                continue
            self._numbers.answered(worker, listeners, now)
            if not listeners:
                self.counters.unheard_frames += 1
                absent.add(worker)
        return absent

    # -------------------------------------------------------------------------------------------------------- what the subscriber says

    def subscribed(self, again: bool) -> None:
        """See `bus_subscriber.Listener`."""
        self._heard = self._clock.monotonic()
        if again:
            self._sources.begin_anew(self._heard)
            self._interruptions.report()

    def message(self, channel: bytes, payload: bytes) -> None:
        """See `bus_subscriber.Listener`."""
        self._heard = self._clock.monotonic()
        try:
            if channel == self._heartbeats:
                self._on_heartbeat(self._read_heartbeat(payload))
            else:
                self._on_frame(self._read_frame(payload))
        except MALFORMED:
            self.counters.malformed += 1
            self._interruptions.report()
        except Exception as error:
            self._fault(error)
            self._interruptions.report()

    def _on_frame(self, frame: Frame) -> None:
        self.counters.received_frames += 1
        fresh, lost = self._sources.frame(frame, self._heard)
        if lost:
            self._interruptions.report()
        if not fresh:
            return
        self.counters.received_items += len(frame.items)
        items: Sequence[Item] = frame.items
        if self._interruptions.pending:
            # A row of this frame may follow one that was lost: until those who hold devices know, none may overtake it.
            items = [doorbell(item) if item.kind == ItemKind.ROW else item for item in items]
        self._events.received(items)

    def _on_heartbeat(self, heartbeat: Heartbeat) -> None:
        fresh, lost = self._sources.heartbeat(heartbeat, self._heard)
        if lost:
            self._interruptions.report()
        if fresh and heartbeat.source != self._worker:
            self._greet = True

    # --------------------------------------------------------------------------------------------------------------------- the clock

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._timing.look)
            try:
                self._look(self._clock.monotonic())
            except Exception as error:
                self._fault(error)

    def _look(self, now: float) -> None:
        stood_still = now - self._looked - self._timing.look > self._timing.silence
        self._looked = now
        if stood_still:
            self.counters.stalls += 1
            self._heard = now
            self._sources.allow(now)
            self._interruptions.report()
        elif now - self._heard > self._timing.silence:
            self._hear_nothing(now)
        elif self._subscriber.up and self._sources.forget_silent(now - self._timing.silence):
            self._interruptions.report()
        self._numbers.forget_absent(now - self._timing.absent)
        if self._greet or now - self._beaten >= self._timing.heartbeat:
            self._greet = False
            self._beaten = now
            for publisher, channels in self._carriers.values():
                publisher.post(self._heartbeat(channels))

    def _hear_nothing(self, now: float) -> None:
        """Not even ourselves. Nobody can tell this worker anything, so its devices are looked into instead."""
        self._heard = now
        self.counters.blind_looks += 1
        self._subscriber.renew()
        self._interruptions.report()

    def _heartbeat(self, channels: Channels, leaving: bool = False) -> Post:
        return channels.heartbeats, self._encode((self._worker, self._incarnation, self._numbers.last, leaving))

    # -------------------------------------------------------------------------------------------------------------------------- told

    def _interrupted(self) -> None:
        self.counters.interruptions += 1
        try:
            self._events.interrupted()
        except Exception as error:
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        self.counters.faults += 1
        structlog.get_logger().error("bus_fault", part="bus", error=type(error).__name__)
