"""A device in a process of its own, to be stopped: `python -m tests.chaos.stopped_reader PORT ACCOUNT DEVICE COUNT`, the password on stdin.

Prints `connected`; reads and acknowledges COUNT deliveries, each once and in order, and prints `all`.
"""

from __future__ import annotations

import asyncio
import sys
from uuid import UUID

from tests.integration.raw_device import RawDevice
from veredus.client import Credentials


async def main(port: int, credentials: Credentials, count: int) -> None:
    device = await RawDevice.connect(("127.0.0.1", port), credentials)
    print("connected", flush=True)
    await device.read_in_order(count)
    await device.barrier()
    device.drop()
    print("all", flush=True)


if __name__ == "__main__":
    who = Credentials(UUID(sys.argv[2]), int(sys.argv[3]), sys.stdin.readline().strip())
    asyncio.run(main(int(sys.argv[1]), who, int(sys.argv[4])))
