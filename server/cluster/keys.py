"""The names of presence's keys and the form of its entries. One hash slot: scripts may reach all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from veredus.core.model import Location

DEVICES = "{veredus:presence}:devices"  # hash: device → "worker incarnation token", and `marker`
LEASE = "{veredus:presence}:lease:"  # + worker → incarnation, expiring
SCRIPTS = ("claim", "release", "renew", "yield")


def parse(entry: str | None) -> Location | None:
    """The location an entry names; None for none, or one of another form."""
    parts = (entry or "").split(" ")
    if len(parts) != 3 or not parts[2].isdecimal():
        return None
    return Location(parts[0], parts[1], int(parts[2]))


def entry(location: Location) -> str:
    return f"{location.worker} {location.incarnation} {location.token}"


def load_scripts(client: Redis) -> dict[str, Any]:
    """Each file of `lua/` as a callable; it is sent again by itself when Redis was restarted."""
    folder = Path(__file__).with_name("lua")
    return {name: client.register_script((folder / f"{name}.lua").read_text(encoding="utf-8")) for name in SCRIPTS}
