"""The receiving half of a WebSocket connection: bytes in, whole valid messages out. Made and used by `channel` only."""

from veredus.ext.station import Station

class Intake:
    """Not of use by itself."""

    station: Station

    def __init__(self, station: Station, takes_text: bool) -> None: ...
