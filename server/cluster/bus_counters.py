"""What the bus of one worker did, and what went otherwise than hoped."""

from __future__ import annotations

import msgspec


class BusCounters(msgspec.Struct):
    """Counts since the start."""

    published_items: int = 0
    published_frames: int = 0
    unheard_frames: int = 0  # nobody listened: their worker is absent
    failed_frames: int = 0  # never handed over, or nobody knows: their receivers notice
    large_items: int = 0  # sent as doorbells
    received_items: int = 0
    received_frames: int = 0
    repeated_frames: int = 0  # doubled or late, dropped
    malformed: int = 0  # not frames of ours, dropped
    publisher_connects: int = 0
    subscriber_connects: int = 0

    # Interruptions told, and what was seen that led to them. One may stand for several.
    interruptions: int = 0
    gaps: int = 0  # numbers missing in a stream
    contradictions: int = 0  # numbers higher than their source ever gave
    restarts: int = 0  # a worker began anew without goodbye
    silences: int = 0  # a worker said nothing any more
    stalls: int = 0  # this process stood still
    blind_looks: int = 0  # told while this worker hears nothing

    faults: int = 0  # our own
