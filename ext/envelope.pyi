"""The codec of `proto/veredus/v1`: parses frames from memory it does not own, copies each content once."""

class Send:
    """One message as a client sent it, checked for form. Immutable."""

    client_id: bytes  # as sent; 16 bytes when `code` is 0
    destination: bytes  # account UUID, 16 bytes when `code` is 0
    type: int
    client_timestamp: int
    urgent: bool
    ephemeral: bool
    digest: bytes  # 16 bytes: what a repeat must equal (destination, type, flags, devices, registrations, contents; not the timestamp)
    guid: bytes  # 16 bytes, drawn by the server when the send was parsed
    devices: tuple[int, ...]  # destination device numbers in the sender's order
    registration_ids: tuple[int, ...]  # parallel to devices
    envelopes: tuple[bytes, ...]  # parallel to devices: encoded Envelope without server_timestamp
    size: int  # bytes charged to budgets
    code: int  # 0, or a number of the error catalogue: this send is to be refused (the frame is fine)

    @staticmethod
    def build(
        source_account: bytes,
        source_device: int,
        client_id: bytes,
        destination: bytes,
        type: int,
        client_timestamp: int,
        urgent: bool,
        ephemeral: bool,
        contents: list[tuple[int, int, bytes]],
        max_content_bytes: int,
        max_devices: int,
    ) -> Send:
        """The same object from values, for HTTP and tests: `contents` are (device, registration id, content)."""

class Inbound:
    """What one socket read brought: the items of all its client frames, in order of arrival."""

    sends: list[Send]
    ack_tags: list[int]
    ack_guids: list[bytes]
    ack_up_to: int  # 0: none; else the largest
    resume: bool
    sync: bool
    malformed: bool  # a frame did not parse; items before it stand

def parse_client_frame(data: bytes, source_account: bytes, source_device: int, max_content_bytes: int, max_devices: int) -> Inbound:
    """Parse one ClientFrame. Malformed bytes set `malformed`; nothing raises."""
