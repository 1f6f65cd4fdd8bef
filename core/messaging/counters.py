"""What delivery counts. Plain integers, added where things happen, read by the metrics edge at scrape time."""

from __future__ import annotations

import msgspec


class Counters(msgspec.Struct):
    """Every drop, refusal and repetition has its number here: nothing disappears silently (P6)."""

    accepted: int = 0
    committed: int = 0
    repeated: int = 0
    refused: int = 0
    rate_limited: int = 0  # of those refused: over the limit of messages
    limit_failures: int = 0  # times the limit could not be agreed with the other workers
    limit_crowded: int = 0  # refused because more accounts sent within a minute than are remembered
    batches: int = 0
    settled_batches: int = 0  # commits whose result was unknown and had to be asked again
    delivered: int = 0
    paged: int = 0  # of those delivered: read back from the store
    doorbells: int = 0
    lagging: int = 0  # times a session turned to paging because its peer was slow
    ephemeral_dropped: int = 0  # ephemeral envelopes for devices that were not there or slow
    acknowledged: int = 0
    removed: int = 0
    unknown_acknowledgements: int = 0
    remove_retries: int = 0
    page_retries: int = 0
    carried: int = 0  # items for devices on other workers, handed to the bus
    passed_on: int = 0  # items of other workers for devices that were not here any more
    interruptions: int = 0  # of the bus: all devices were looked into
    absent_targets: int = 0  # devices that were nowhere when something was committed for them: their push became due
    owed_dropped: int = 0  # looks left to the sweep because too many were owed
    swept: int = 0  # devices the sweep found waiting; near zero in normal life
    presence_failures: int = 0
    replaced_sessions: int = 0
    malformed_frames: int = 0
