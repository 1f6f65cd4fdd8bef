"""Drives real clients against a server by a seeded script, records what they see, drains every mailbox and checks the promises.

The same seed makes the same script (not the same interleaving: that is the server's). Faults are for the caller to make meanwhile:
`Workload.reached` says when.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from tests.checker.check import Held, Violation, check
from tests.checker.history import Device, History, Quiescent, digest_of
from tests.checker.player import Mix, Player, Scene, Tally
from veredus.client import Client, Credentials

__all__ = ["Mix", "Report", "Workload", "run"]


@dataclass(repr=False)
class Report:
    """What came of a workload. `held` counts messages that mailboxes still had at the end, acknowledged or not."""

    violations: list[Violation]
    tally: Tally
    held: int
    history: History

    @property
    def kept(self) -> bool:
        """Every promise was kept and every mailbox is empty."""
        return not self.violations and not self.held

    def __repr__(self) -> str:
        shown = "".join(f"\n{violation}" for violation in self.violations[:20])
        return f"{len(self.violations)} violations, {self.held} held at the end, {self.tally}, {len(self.history)} events{shown}"


class Workload:
    """One run. `accounts` are the devices that play: each sends to every account among them, to all its devices here."""

    def __init__(
        self,
        url: str,
        accounts: Sequence[Credentials],
        seed: int,
        mix: Mix | None = None,
        history: History | None = None,
        *,
        name: str = "",
    ) -> None:
        """`name` tells this workload's connections from others in the same history."""
        devices: dict[UUID, list[int]] = defaultdict(list)
        for account in accounts:
            devices[account.account].append(account.device)
        self._scene = Scene(url, dict(devices), mix or Mix(), history or History())
        self._players = [Player(self._scene, credentials, f"{name}{seed}.{index}") for index, credentials in enumerate(accounts)]

    async def reached(self, sent: int) -> None:
        """Wait until so many messages were answered with SENT."""
        await self._until(lambda: self._scene.tally.sent >= sent)

    async def run(self, messages: int) -> Report:
        """Send about so many messages in all, wait for quiet, drain, check. Bound it with `asyncio.timeout`."""
        await asyncio.gather(*(player.client.connect() for player in self._players))
        async with asyncio.TaskGroup() as receivers:
            for player in self._players:
                receivers.create_task(player.receive())
            await asyncio.gather(*(player.play(messages // len(self._players)) for player in self._players))
            await self._quiet()
            for player in self._players:
                await player.release()
                await player.client.close()
        held = await self.drain()
        violations = check(self._scene.history, held)
        return Report(violations, self._scene.tally, sum(map(len, held.values())), self._scene.history)

    async def _quiet(self) -> None:
        """P5: after a bounded time every device has got everything. Past it, the checker says which did not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._scene.mix.quiescence_seconds):
                await self._until(lambda: not any(player.missing() for player in self._players))
                await asyncio.gather(*(player.client.drained() for player in self._players))  # repeats after a reconnect as well
        self._scene.history.record(Quiescent())

    async def drain(self) -> dict[Device, list[Held]]:
        """Empty every mailbox: acknowledgements on their way need a moment, lost ones a repeat. What stays is given back."""
        held: dict[Device, list[Held]] = {}
        for player in self._players:
            left: list[Held] = []
            with suppress(TimeoutError):
                async with asyncio.timeout(self._scene.mix.drain_seconds):
                    while left := await self._drain_once(player):
                        pass
            if left:
                held[Device(player.credentials.account.bytes, player.credentials.device)] = left
        return held

    async def _drain_once(self, player: Player) -> list[Held]:
        client = player.new_client()
        try:
            await client.connect()
            return await self._empty(client)
        finally:
            await client.close()

    async def _empty(self, client: Client) -> list[Held]:
        await client.drained()
        found = client.take()
        for message in found:
            await message.ack()
        return [Held(message.guid.bytes, digest_of(message.content)) for message in found]

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._scene.changed.clear()
            await self._scene.changed.wait()


async def run(url: str, accounts: Sequence[Credentials], seed: int, messages: int, mix: Mix | None = None) -> Report:
    """`Workload` without faults of the caller's own."""
    return await Workload(url, accounts, seed, mix).run(messages)
