"""The command line: `veredus COMMAND`. Owns the arguments and how a failure is told; each command's work is in `commands/`.

Commands are imported when they run: `--version` and a mistyped option answer without loading a server.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
MAX_DEVICES = 6  # CON-17
OWN_ARGUMENTS = {"chat": "veredus.client.chat", "loadtest": "veredus.server.commands.loadtest"}  # modules that parse what follows


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 1 failed with one line on standard error, 2 wrong arguments, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] and arguments[0] in OWN_ARGUMENTS:
        code: int = import_module(OWN_ARGUMENTS[arguments[0]]).main(arguments[1:])
        return code
    chosen = _parser().parse_args(arguments)
    from veredus.core.errors import VeredusError
    from veredus.server.failure import StartFailed

    try:
        return int(import_module(f"veredus.server.commands.{chosen.module}").run(chosen) or 0)
    except (StartFailed, VeredusError) as failure:
        print(f"veredus: {failure}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="veredus", description="A self-hosted message-delivery server.")
    parser.add_argument("--version", action="version", version=f"veredus {metadata.version('veredus')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    dev = commands.add_parser("dev", help="try it: own PostgreSQL and Redis, two demo accounts, messages shown on their way")
    dev.set_defaults(module="dev")
    dev.add_argument("--data-dir", type=Path, metavar="DIR", help="where data stays (with --once: nowhere)")
    dev.add_argument("--port", type=_port, metavar="N", help="default 8080; 0: any free one")
    dev.add_argument("--once", action="store_true", help="show the messages, then exit: 0 when all arrived")

    serve = commands.add_parser("serve", help="serve, on PostgreSQL and Redis of yours")
    serve.set_defaults(module="serve")
    serve.add_argument("--workers", type=int, default=1, metavar="N", help="processes; 0: one per CPU (default 1)")
    _add_config(serve)

    migrate = commands.add_parser("migrate", help="bring the database to the schema of this version; safe to run from many nodes at once")
    migrate.set_defaults(module="migrate")
    _add_config(migrate)

    account = commands.add_parser("account", help="make accounts").add_subparsers(metavar="ACTION", required=True)
    create = account.add_parser("create", help="make an account and print its credentials, once")
    create.set_defaults(module="account")
    create.add_argument("--devices", type=int, default=1, choices=range(1, MAX_DEVICES + 1), metavar="N", help=f"1 to {MAX_DEVICES}")
    _add_config(create)

    commands.add_parser("chat", help="talk, in a terminal: veredus chat URL --as UUID.DEVICE:PASSWORD")
    commands.add_parser("loadtest", help="measure how much a server takes, and check every message: veredus loadtest --help")
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML; the environment (DATABASE_URL, VEREDUS_…) wins over it")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("must be 0 to 65535")
    return port


if __name__ == "__main__":
    sys.exit(main())
