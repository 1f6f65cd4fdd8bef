"""`veredus serve`: workers under a supervisor, on stores of the operator's."""

from __future__ import annotations

import argparse
import asyncio
import os

import structlog

from veredus.server import log, wiring
from veredus.server.commands.faults import told
from veredus.server.config import Config, load
from veredus.server.failure import StartFailed
from veredus.server.process import worker
from veredus.server.process.contract import ProcessLimits, SupervisorSpec, WorkerContext
from veredus.server.process.sockets import Address
from veredus.server.process.supervisor import Supervisor

ROOM_SECONDS = 5.0  # after the drain, for a worker to close before it is killed


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP replaces the workers one at a time."""
    if arguments.workers < 0:
        raise StartFailed("--workers: must not be below 0")
    config = load(arguments.config, os.environ)
    log.configure(config.log)
    return Supervisor(
        SupervisorSpec(
            worker_main=lambda context: work(context, config),
            addresses=(Address(config.listen.address, config.listen.port),),
            workers=arguments.workers,
            limits=ProcessLimits(drain_seconds=config.shutdown_seconds + ROOM_SECONDS),
            on_ready=announce,
        )
    ).run()


def work(context: WorkerContext, config: Config) -> int:
    """One worker's life, in its own process."""

    async def body(context: WorkerContext, stop: asyncio.Event) -> None:
        with told():
            await wiring.serve(config, ready=lambda _: context.ready(), stopping=stop, sockets=context.sockets)

    return worker.run(context, body)


def announce(addresses: tuple[Address, ...]) -> None:
    structlog.get_logger("veredus").info("serving", addresses=[f"{address.host}:{address.port}" for address in addresses])
