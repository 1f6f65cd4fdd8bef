"""A result as text for people. Judges nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from veredus.bench.load.result import Result


def text(result: Result) -> str:
    """A few lines, the verdict first."""
    head = f"{result.workload}: {'sound' if result.sound else 'NOT SOUND'}, {result.seconds:g} s measured"
    return "\n".join(
        [head, *rates(result), *latencies(result), *costs(result), *(f"  note         {note}" for note in [result.receipts] if note)]
    )


def rates(result: Result) -> Iterator[str]:
    if result.connects_per_s is not None:
        yield f"  connects     {result.connects_per_s:>10,.0f} /s"
    elif result.workload == "drain":
        yield f"  delivered    {result.delivered_per_s:>10,.0f} /s"
    elif result.workload != "idle":
        yield f"  delivered    {result.delivered_per_s:>10,.0f} /s   (answered SENT: {result.sent_per_s:,.0f} /s)"


def latencies(result: Result) -> Iterator[str]:
    named = {"sent": result.sent_latency_ms, "delivered": result.delivered_latency_ms, "connect": result.connect_latency_ms}
    for name, latency in named.items():
        if latency is not None:
            yield f"  {name:<9} ms  p50 {latency.p50:.3f}   p99 {latency.p99:.3f}   p99.9 {latency.p999:.3f}   max {latency.max:.3f}"


def costs(result: Result) -> Iterator[str]:
    named = {
        "CPU µs/message": result.cpu_us_per_message,
        "  in the kernel": result.system_us_per_message,
        "  in postgres": result.postgres_us_per_message,
        "CPU µs/connect": result.cpu_us_per_connect,
        "CPUs in use": result.cpu_share,
    }
    yield from (f"  {title:<16} {spread(values)}" for title, values in named.items() if values)
    if result.rss_kb_per_connection is not None:
        yield f"  memory       {result.rss_kb_per_connection:g} KiB of RSS per connection"
    if result.wal_bytes_per_message is not None:
        yield f"  WAL          {result.wal_bytes_per_message:g} bytes per message"
    yield f"  checks       {spread(msgspec.structs.asdict(result.checks))}"


def spread(values: Mapping[str, float]) -> str:
    return "   ".join(f"{name} {value:g}" for name, value in values.items())
