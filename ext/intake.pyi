"""The receiving half of a WebSocket connection: bytes in, whole valid messages out. Made and used by `channel` only."""

from collections.abc import Mapping

from veredus.ext.station import Station

FAULTS: Mapping[str, int]
"""The codes the transport itself closes with, by their names in the error catalogue."""

class Intake:
    """Not of use by itself."""

    station: Station

    def __init__(self, station: Station, takes_text: bool) -> None: ...
