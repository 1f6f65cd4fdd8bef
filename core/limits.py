"""Every limit in one table, each with its reason. `serve --config` overrides them by name."""

from __future__ import annotations

import msgspec

KIB = 1024
MIB = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes in bytes, times in seconds, unless the name says otherwise."""

    # One message
    content_bytes: int = 256 * KIB  # MSG-5, CON-18
    devices_per_send: int = 16  # above devices.max (6, CON-17), so that a stale list is answered with 409, not with an error of form
    message_bytes: int = 2 * MIB  # one WebSocket message: six devices' contents at the limit, with room for framing
    http_body_bytes: int = 2 * MIB + 64 * KIB  # one HTTP body: six devices' contents at the limit in base64, with room for the JSON around
    # Sending: RL-1
    messages_per_minute: int = 100  # of one account, over all its devices and all workers; 0: no limit
    messages_burst: int = 0  # as many at once after a rest; 0: a minute's worth
    limit_entries: int = 262_144  # accounts a worker remembers that sent within the last minute: 24 bytes each, 12 MiB of table at most
    # Receiving
    partial_bytes_per_worker: int = 64 * MIB  # all half-received messages together (P6)
    upgrade_head_bytes: int = 16 * KIB  # the size of request head other servers take
    upgrade_seconds: float = 5.0  # a slow head is given up (slow loris)
    partial_seconds: float = 30.0  # a message begun must end: 2 MiB in 30 s is 70 kB/s
    closing_seconds: float = 5.0  # after our CLOSE the peer's is awaited so long: a few round trips of a bad link
    # Group commit
    batch_rows: int = 1000  # 4.7 µs a row at 1,000 rows, 6.2 at 100 (measured); larger gains nothing
    batch_bytes: int = 4 * MIB
    lanes: int = 2  # one commits while another fills
    lane_pause_bytes: int = 8 * MIB  # sockets of the lane stop being read
    lane_bytes: int = 16 * MIB  # then BUSY
    seen_entries: int = 65_536  # recent keys answered from memory; older repeats are answered by the store
    retry_after_ms: int = 1000
    # Delivering
    page_rows: int = 100  # SYN-2
    page_bytes: int = 1 * MIB  # then the page ends after that row: 16 pages at once are 20 MiB at most, and an outbox holds no more
    batch_messages: int = 1000  # SYN-5
    batch_delivery_bytes: int = 10 * MIB  # SYN-5
    window: int = 1000  # unacknowledged deliveries of one connection; SYN-5's batch
    window_bytes: int = 10 * MIB
    outbox_bytes: int = 1 * MIB  # then LAGGING: paged later, nothing is dropped
    ack_batch_rows: int = 1000
    # Keeping
    retention_days: int = 30  # MSG-18
    key_window_hours: int = 24  # MSG-26: a key lives for one to two windows
    # HTTP
    http_bodies_bytes: int = 64 * MIB  # all request bodies of a worker together (P6)
    http_answers_bytes: int = 64 * MIB  # all pages of a worker that their readers have not taken yet (P6)
    http_answer_seconds: float = 15.0  # a send without a result by then is answered RESULT_UNKNOWN; longer than any healthy commit
    pull_reads: int = 4  # mailbox pages being read for HTTP at a time: 25 MiB each at worst
    # Credentials
    credential_cache_entries: int = 16_384  # verified devices remembered: a few hundred bytes each
    credential_cache_seconds: float = 60.0  # how long a revocation may go unseen where its notice was lost
    # Heartbeat (CON-19)
    client_ping_seconds: float = 25.0
    idle_close_seconds: float = 60.0
    server_ping_seconds: float = 55.0
    pong_seconds: float = 20.0
