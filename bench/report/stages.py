"""Where a worker's time goes, by stage: `python -m veredus.bench.report.stages FOLDED RESULT`.

FOLDED is what `py-spy record --native -f raw` wrote while a load test ran, RESULT that test's JSON. Each sample belongs to the stage of its
innermost frame that a rule knows, so the stages add up to the whole. Measures nothing itself.

The profiler samples by the wall clock, and a process loses its CPU mostly inside system calls, which wake others. So samples in system
calls are weighed to add up to the system time the kernel counted, and all others to the user time.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from veredus.bench.load.result import Result

# The first rule whose pattern is found in a frame wins; frames are asked from the innermost outwards.
RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (stage, re.compile(pattern))
    for stage, pattern in (
        ("garbage collection", r"^gc_collect_main"),
        ("kernel: read sockets", r"^(read|recv) \(libc"),
        ("kernel: wait for sockets", r"^epoll_pwait"),
        ("kernel: write to clients", r"^send \(libc"),
        ("kernel: write to stores", r"^(write|writev) \(libc"),
        ("parse frames", r"\(ext/(envelope|intake|digest)\.|_(scan|new)_send|parse_client"),
        ("accept: seen, lane", r"Delivery\.(accept|_take)|^Seen\.enter|^Lane\.offer|^Journal\.submit|_Flight"),
        ("batch and judge", r"^Lane\.|Journal\._judge|\(core/messaging/(admission|addressbook)\.py|^Journal\._process"),
        ("encode the commit", r"^Committer\._statement|^columns|client_ids|encode_bind_msg|Codec_encode|array_encode"),
        (
            "commit: the rest",
            r"^Committer|^committed |\(server/store/(commit|pool|windows|messages)\.py|Journal\._commit|_locate|\(asyncpg/|protocol\.c\)",
        ),
        ("push to the recipient", r"Routing\.route|Session\.push|Mailbox\.(on_live|_deliver)|Link_deliver|FrameWriter_put_delivery"),
        ("answer the sender", r"Answers\.|Seen\.(settle|_forget)|Session\.answer|Link_answer|put_reply|Journal\.(_finish|_reply)"),
        ("flush outboxes", r"Station|Outbox|Channel_flush|\(ext/(station|outbox|channel)\."),
        (
            "acknowledge and remove",
            r"Session\._acknowledge|Mailbox\.(acknowledge|_take|_take_up_to|on_removed|_leave_lagging)|Remover|Session\.on_removed",
        ),
        ("presence", r"\(server/cluster/|\(redis/"),
    )
)
LOOP = "event loop"
KERNEL = "kernel: "


def stage_of(frames: Iterable[str]) -> str:
    """The stage of a stack, given from the innermost frame outwards."""
    for frame in frames:
        for stage, pattern in RULES:
            if pattern.search(frame):
                return stage
    return LOOP


def microseconds(folded: str, user: float, system: float) -> dict[str, float]:
    """Microseconds by stage, largest first, out of so many in the process and in the kernel."""
    counts: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, number = line.rpartition(" ")
        counts[stage_of(reversed(stack.split(";")))] += int(number)
    kernel = sum(number for stage, number in counts.items() if stage.startswith(KERNEL)) or 1
    own = counts.total() - kernel or 1
    costs = {stage: number * (system / kernel if stage.startswith(KERNEL) else user / own) for stage, number in counts.items()}
    return dict(sorted(costs.items(), key=lambda item: -item[1]))


def table(folded: str, result: Result) -> str:
    """Markdown: microseconds a message by stage, adding up to what the workers used."""
    whole, system = result.cpu_us_per_message["workers"], result.system_us_per_message["workers"]
    rows = [f"| {stage} | {cost:.1f} | {cost / whole:.0%} |" for stage, cost in microseconds(folded, whole - system, system).items()]
    return "\n".join(["| stage | µs a message | share |", "|---|--:|--:|", *rows, f"| **worker** | **{whole:.1f}** | |"])


if __name__ == "__main__":
    written = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=Result)
    print(table(Path(sys.argv[1]).read_text(encoding="utf-8"), written))
