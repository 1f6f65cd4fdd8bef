"""Clients in a process of their own, to be killed or stopped with it. A program, not a test: `python -m tests.chaos.crowd PORT`.

Takes a JSON list of Authorization values on standard input, prints `open` when every connection is one, then reads and answers nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.integration.ws_peer import Peer


async def main(port: int, authorizations: list[str]) -> None:
    crowd = [await Peer.open(("127.0.0.1", port), "/v1/websocket", replace={"Authorization": each}) for each in authorizations]
    for peer in crowd:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    print("open", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), json.loads(sys.stdin.readline())))
