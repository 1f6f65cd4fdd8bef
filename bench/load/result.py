"""What a load test found out: built from figures and looks, judged, and written as JSON or text. Measures nothing."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from veredus.bench.load.observe import Sample
from veredus.bench.load.plan import Figures, Plan
from veredus.ext.hist import Histogram

RECEIPTS = {
    "identified": "no delivery receipts go to the sender yet: their cost is not in these figures",
    "sealed": "sealed envelopes have no server receipts",
}


class Moment(NamedTuple):
    """A named look at the server."""

    name: str
    sample: Sample


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p99: float
    p999: float
    max: float
    count: int


class Checks(msgspec.Struct, frozen=True):
    """Faults, each of which fails the run, except `refused`: those sends were repeated and arrived."""

    lost: int
    duplicated: int
    reordered: int
    failed: int
    left_in_queues: int
    foreign: int
    malformed: int
    errors: int
    broken_connections: int
    refused: int

    def sound(self) -> bool:
        """Nothing went wrong."""
        values = msgspec.structs.asdict(self)
        return not any(count for name, count in values.items() if name != "refused")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One load test. CPU is user and system time of whole process trees while measuring, in microseconds, by message (or connection)."""

    workload: str
    plan: Plan
    seconds: float
    sent_per_s: float
    delivered_per_s: float
    connects_per_s: float | None = None
    sent_latency_ms: Latency | None = None
    delivered_latency_ms: Latency | None = None  # not of drain, whose messages waited as long as storing them all took
    connect_latency_ms: Latency | None = None
    cpu_us_per_message: dict[str, float] = {}
    system_us_per_message: dict[str, float] = {}  # of those, in the kernel
    postgres_us_per_message: dict[str, float] = {}  # of those of postgres, by connection and background process
    cpu_us_per_connect: dict[str, float] = {}
    cpu_share: dict[str, float] = {}  # CPUs in use while measuring
    rss_kb_per_connection: float | None = None
    rss_kb: dict[str, int] = {}
    wal_bytes_per_message: float | None = None
    checks: Checks
    whole_run: dict[str, int]
    receipts: str
    settings: dict[str, object]

    @property
    def sound(self) -> bool:
        return self.checks.sound()


def conclude(plan: Plan, moments: list[Moment], figures: tuple[Figures, Figures], stored: int | None, facts: dict[str, object]) -> Result:
    """The result of looks, and of the figures while measuring and at the end."""
    measured, done = figures
    looks = {moment.name: moment.sample for moment in moments}
    begin, end = looks["begin"], looks["end"]
    cpu = {part: end.cpu_seconds[part] - begin.cpu_seconds[part] for part in end.cpu_seconds} | {"generator": measured.cpu_seconds}
    connecting = plan.workload == "connect"
    units = done.connected if connecting else measured.delivered
    each = _each(cpu, units)
    if each:
        each["server"] = round(sum(value for part, value in each.items() if part != "generator"), 2)
    system = {part: end.system_seconds[part] - begin.system_seconds[part] for part in end.system_seconds}
    backends = {purpose: spent - begin.backend_seconds.get(purpose, 0.0) for purpose, spent in end.backend_seconds.items()}
    wal = end.wal_bytes - begin.wal_bytes if end.wal_bytes is not None and begin.wal_bytes is not None else None
    return Result(
        workload=plan.workload,
        plan=plan,
        seconds=round(measured.seconds, 3),
        sent_per_s=_rate(measured.accepted, measured.seconds),
        delivered_per_s=_rate(measured.delivered, measured.seconds),
        connects_per_s=_rate(done.connected, measured.seconds) if connecting else None,
        sent_latency_ms=None if connecting else _latency(measured.sent_latency, measured.sent_slowest),
        delivered_latency_ms=None if plan.workload == "drain" else _latency(measured.delivered_latency, measured.delivered_slowest),
        connect_latency_ms=_latency(done.sent_latency, done.sent_slowest) if connecting else None,
        cpu_us_per_message={} if connecting else each,
        system_us_per_message={} if connecting else _each(system, units),
        postgres_us_per_message={} if connecting else {purpose: cost for purpose, cost in _each(backends, units).items() if cost},
        cpu_us_per_connect=each if connecting else {},
        cpu_share={part: round(spent / measured.seconds, 3) for part, spent in cpu.items()} if measured.seconds else {},
        rss_kb_per_connection=_rss(plan, looks),
        rss_kb=end.rss_kib,
        wal_bytes_per_message=round(wal / units, 1) if wal is not None and units and not connecting else None,
        checks=_checks(done, stored),
        whole_run={"sent": done.accepted, "delivered": done.delivered},
        receipts=RECEIPTS.get(plan.workload, ""),
        settings=facts,
    )


def _each(seconds: dict[str, float], units: int) -> dict[str, float]:
    """Microseconds by unit."""
    return {name: round(spent * 1e6 / units, 2) for name, spent in seconds.items()} if units else {}


def _checks(done: Figures, stored: int | None) -> Checks:
    return Checks(
        lost=done.lost, duplicated=done.duplicated, reordered=done.reordered, failed=done.failed,
        left_in_queues=max(done.left, stored or 0), foreign=done.foreign, malformed=done.malformed, errors=done.errors,
        broken_connections=done.broken, refused=done.refused,
    )  # fmt: skip


def _rss(plan: Plan, looks: dict[str, Sample]) -> float | None:
    """The slope over the second half of the connections: what a worker grew by with its first ones is not theirs."""
    if plan.workload != "idle" or "workers" not in looks["ready"].rss_kib:
        return None
    grown = looks["begin"].rss_kib["workers"] - looks["ready"].rss_kib["workers"]
    return round(grown / max(1, plan.connections - plan.connections // 2), 2)


def _latency(counts: dict[int, int], slowest: int) -> Latency | None:
    if not counts:
        return None
    histogram = Histogram()
    histogram.merge(counts, slowest)
    at = [round(histogram.quantile(share) / 1e6, 3) for share in (0.5, 0.99, 0.999)]
    return Latency(at[0], at[1], at[2], round(slowest / 1e6, 3), histogram.count)


def merged(parts: list[Figures]) -> Figures:
    """All generators' figures as one: counts added, times the longest, latencies together."""
    total = Figures(seconds=max(part.seconds for part in parts))
    sent, delivered = Histogram(), Histogram()
    for part in parts:
        for name in Figures.__struct_fields__:
            if isinstance(getattr(part, name), int | float) and name != "seconds":
                setattr(total, name, getattr(total, name) + getattr(part, name))
        sent.merge(part.sent_latency, part.sent_slowest)
        delivered.merge(part.delivered_latency, part.delivered_slowest)
    total.sent_latency, total.sent_slowest = sent.counts(), sent.largest
    total.delivered_latency, total.delivered_slowest = delivered.counts(), delivered.largest
    return total


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds else 0.0
