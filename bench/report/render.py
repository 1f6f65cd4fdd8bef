"""Results as a report: Markdown tables and one drawing. Measures nothing; every figure comes from a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from veredus.bench.load.result import Latency, Result

PARTS = ("workers", "postgres", "redis")
COLOURS = {"workers": "#2f6f9f", "postgres": "#7a9f3d", "redis": "#b0413e"}
BAR, ROW, LEFT, WIDTH = 18, 30, 150, 720  # pixels


class Case(NamedTuple):
    """One test of the report: the command's arguments, and the budget of the design it is held against."""

    arguments: str
    budget: str


def middle(results: Sequence[Result], costs: str, part: str) -> float:
    """The median over runs of one part's cost."""
    values: list[float] = [getattr(result, costs).get(part, 0.0) for result in results]
    return median(values)


def row(case: Case, results: Sequence[Result]) -> str:
    """One case in the table of costs."""
    costs = "cpu_us_per_connect" if results[0].connects_per_s is not None else "cpu_us_per_message"
    rates = [result.connects_per_s or result.delivered_per_s for result in results]
    cells = [
        f"`{case.arguments}`",
        f"{median(rates):,.0f} ({min(rates):,.0f}–{max(rates):,.0f})",
        *(f"{middle(results, costs, part):.1f}" for part in ("server", *PARTS, "generator")),
        _latency([result.delivered_latency_ms or result.connect_latency_ms for result in results]),
        case.budget,
    ]
    return "| " + " | ".join(cells) + " |"


def idle_row(case: Case, results: Sequence[Result]) -> str:
    weights = [result.rss_kb_per_connection or 0.0 for result in results]
    return f"| `{case.arguments}` | {median(weights):.1f} ({min(weights):.1f}–{max(weights):.1f}) | {case.budget} |"


def _latency(latencies: Sequence[Latency | None]) -> str:
    known = [latency for latency in latencies if latency is not None]
    return f"{median([each.p50 for each in known]):.1f} / {median([each.p99 for each in known]):.1f}" if known else "–"


def parts_row(case: Case, results: Sequence[Result]) -> str:
    """Kernel time and the processes of PostgreSQL, of one case."""
    backends = sorted({name for result in results for name in result.postgres_us_per_message})
    named = [f"{name} {middle(results, 'postgres_us_per_message', name):.1f}" for name in backends]
    kernel = [f"{part} {middle(results, 'system_us_per_message', part):.1f}" for part in PARTS]
    wal = [result.wal_bytes_per_message for result in results if result.wal_bytes_per_message is not None]
    return f"| `{case.arguments}` | {', '.join(kernel)} | {', '.join(named)} | {median(wal):.0f} |" if wal else ""


def report(measured: Mapping[Case, Sequence[Result]], stages: str) -> str:
    """The whole page."""
    working = {case: results for case, results in measured.items() if results and results[0].workload != "idle"}
    idle = {case: results for case, results in measured.items() if results and results[0].workload == "idle"}
    first = next(iter(measured.values()))[0]
    sound = all(result.sound for results in measured.values() for result in results)
    runs = min(len(results) for results in measured.values())
    lines = [
        "# Load test report",
        "",
        f"Made by `make bench`: {runs} runs a case, alternating; medians, with the range of the rates. "
        f"Every run checked each message: {'nothing lost, doubled or reordered, queues empty' if sound else 'NOT SOUND, see the JSON'}.",
        "CPU is user and system time of whole process trees in µs by message (by connection for `connect`).",
        "",
        *(f"> {note}" for note in sorted({results[0].receipts for results in measured.values() if results[0].receipts})),
        "",
        "![CPU by message](summary.svg)",
        "",
        "| case | rate /s | server µs | workers | postgres | redis | generator | p50 / p99 ms | budget |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
        *(row(case, results) for case, results in working.items()),
        "",
        "| case | KiB of RSS by connection | budget |",
        "|---|--:|---|",
        *(idle_row(case, results) for case, results in idle.items()),
        "",
        "| case | of that in the kernel | of PostgreSQL's | WAL bytes a message |",
        "|---|---|---|--:|",
        *(line for case, results in working.items() if (line := parts_row(case, results))),
        "",
        *(["## A worker's time, by stage (`identified`)", "", stages, ""] if stages else []),
        "## Settings",
        "",
        *(f"- {name}: {_flat(value)}" for name, value in first.settings.items()),
        "- load average of the machine at the start of each case's runs: "
        + "; ".join(
            f"{case.arguments}: {', '.join(str(each.settings.get('load_average')) for each in runs)}" for case, runs in measured.items()
        ),
        "",
    ]
    return "\n".join(lines)


def _flat(value: object) -> str:
    return ", ".join(f"{name} {setting}" for name, setting in value.items()) if isinstance(value, Mapping) else str(value)


def drawing(measured: Mapping[Case, Sequence[Result]]) -> str:
    """CPU by message as bars, one a case, in SVG."""
    cases = {case: results for case, results in measured.items() if results[0].cpu_us_per_message}
    largest = max((middle(results, "cpu_us_per_message", "server") for results in cases.values()), default=1.0) or 1.0
    scale = (WIDTH - LEFT - 90) / largest
    height = ROW * len(cases) + 40
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">']
    out.append(f'<rect width="{WIDTH}" height="{height}" fill="white"/>')
    for number, (case, results) in enumerate(cases.items()):
        top, left = 10 + number * ROW, float(LEFT)
        out.append(f'<text x="{LEFT - 8}" y="{top + 13}" text-anchor="end">{" ".join(case.arguments.split()[:3])}</text>')
        for part in PARTS:
            width = middle(results, "cpu_us_per_message", part) * scale
            out.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{COLOURS[part]}"/>')
            left += width
        out.append(f'<text x="{left + 6:.1f}" y="{top + 13}">{middle(results, "cpu_us_per_message", "server"):.1f} µs</text>')
    for number, part in enumerate(PARTS):
        out.append(f'<rect x="{LEFT + 110 * number}" y="{height - 22}" width="12" height="12" fill="{COLOURS[part]}"/>')
        out.append(f'<text x="{LEFT + 18 + 110 * number}" y="{height - 12}">{part}</text>')
    return "\n".join([*out, "</svg>", ""])
