"""`veredus migrate`."""

from __future__ import annotations

import argparse
import asyncio
import os

from veredus.server.config import load
from veredus.server.failure import StartFailed
from veredus.server.store.migrations import MigrationError, migrate


def run(arguments: argparse.Namespace) -> int:
    """Apply what is missing."""
    config = load(arguments.config, os.environ)
    asyncio.run(apply(config.database_url.reveal()))
    print("the database has the schema of this version")
    return 0


async def apply(dsn: str) -> None:
    """`migrate`, its refusal as a line for the operator."""
    try:
        await migrate(dsn)
    except MigrationError as error:
        raise StartFailed(f"migrate: {error}") from None
