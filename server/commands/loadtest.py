"""`veredus loadtest WORKLOAD`: how much a server takes, checked message by message.

Owns the arguments, the progress line and the exit code: 0 when every check held, 1 when one did not or the test could not be carried out.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from veredus.bench.load import leading
from veredus.bench.load.leading import LoadFailed, Target
from veredus.bench.load.observe import Watched
from veredus.bench.load.plan import WORKLOADS, Account, Figures, Plan
from veredus.bench.load.result import Result
from veredus.bench.load.showing import text
from veredus.server.commands.testbed import testbed
from veredus.server.failure import StartFailed

DESCRIPTION = """
Workloads: identified and sealed send from PAIRS senders to as many recipients, each keeping WINDOW sends under way (or all together RATE a
second, with latency counted from the time each was to leave). drain stores STORED messages for each of CONNECTIONS devices, then connects
them. connect opens CONNECTIONS authenticated connections, idle holds them and weighs the worker.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.description = DESCRIPTION
    parser.add_argument("workload", choices=WORKLOADS)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--embedded", action="store_true", help="start stores and a worker of its own, in a temporary folder")
    where.add_argument("--url", help="the server's WebSocket: wss://chat.example.org/v1/websocket")
    parser.add_argument(
        "--credentials", type=Path, metavar="FILE", help="with --url: lines of UUID.1:PASSWORD, as `veredus account create` prints them"
    )
    parser.add_argument("--ca", help="with --url: PEM file that vouches for the server")
    parser.add_argument(
        "--watch", action="append", default=[], metavar="PART=PID", help="with --url: a process tree to look at (workers, …)"
    )
    parser.add_argument("--dsn", help="with --url: the database, for its settings, its log and what is left in mailboxes")
    parser.add_argument("--tls", action="store_true", help="with --embedded: TLS in the worker")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="with --embedded: processes (1)")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=VALUE", help="with --embedded: one of the server's limits")
    for name, kind, help_text in (
        ("pairs", int, "senders, and recipients"),
        ("window", int, "sends without an answer, per sender"),
        ("payload", int, "bytes of content"),
        ("seconds", float, "measured, after --warmup"),
        ("warmup", float, "seconds before"),
        ("rate", float, "sends a second, whatever comes back; 0: as many as the window allows"),
        ("connections", int, "devices to drain, connections to open"),
        ("stored", int, "messages for each device to drain"),
        ("at-once", int, "upgrades under way at a time"),
        ("generators", int, "generator processes"),
    ):
        default = getattr(Plan(workload="idle"), name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{help_text} ({default:g})")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="sample the workers with py-spy while measuring, as folded stacks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there as well")


def run(given: argparse.Namespace) -> int:
    """Carry the test out and show it; the exit code."""
    try:
        plan = msgspec.convert({name: getattr(given, name) for name in Plan.__struct_fields__}, Plan)
        result = asyncio.run(_measure(plan, given))
    except (LoadFailed, StartFailed, OSError, ValueError) as error:
        _draw_over("")
        print(f"veredus loadtest: {error}", file=sys.stderr)
        return 1
    _draw_over("")
    print(text(result))
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    return 0 if result.sound else 1


async def _measure(plan: Plan, given: argparse.Namespace) -> Result:
    async with AsyncExitStack() as stack:
        if given.embedded:
            _draw("starting stores and a worker", Figures())
            limits = {name: float(value) if "." in value else int(value) for name, value in map(_setting, given.limit)}
            target = await stack.enter_async_context(testbed(plan.accounts(), given.tls, given.workers, limits))
        else:
            target = _remote(given)
        return await leading.run(plan, msgspec.structs.replace(target, profile=given.profile), _draw)


def _remote(given: argparse.Namespace) -> Target:
    if given.credentials is None:
        raise ValueError("--url needs --credentials")
    accounts = [_account(line.strip()) for line in given.credentials.read_text(encoding="utf-8").splitlines() if line.strip()]
    pids: dict[str, tuple[int, ...]] = {}
    for part, pid in map(_setting, given.watch):
        pids[part] = (*pids.get(part, ()), int(pid))
    return Target(url=given.url, accounts=accounts, ca=given.ca, watched=Watched(pids=pids, dsn=given.dsn))


def _account(line: str) -> Account:
    name, colon, password = line.partition(":")
    uuid, _, device = name.partition(".")
    if not colon or device not in ("", "1"):
        raise ValueError("--credentials: each line must be UUID.1:PASSWORD")
    return Account(uuid, password)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value


def _draw(phase: str, figures: Figures) -> None:
    if figures.seconds:
        rate = figures.delivered / figures.seconds
        phase += f"  {figures.seconds:5.1f} s  {figures.delivered:>9,} delivered  {rate:>9,.0f} /s"
    _draw_over(phase)


def _draw_over(line: str) -> None:
    """On a terminal, in place of the line before."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    """Parse and run; the exit code."""
    parser = argparse.ArgumentParser("veredus loadtest")
    arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
