"""What waits to be written: order of kinds, limits of one message, and the bytes on the wire."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from veredus.core.errors import CATALOGUE, Code
from veredus.ext.frames import parse_server_frame
from veredus.ext.intake import FAULTS
from veredus.ext.outbox import Outbox
from veredus.server.ws.closings import close_code, closings, endings

HELLO, RESULT, DELIVERY, DRAINED, ERROR, SHUTDOWN = range(1, 7)
BINARY, PONG = 2, 10


def split(wire: bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of each message; lengths must be written the shortest way."""
    messages = []
    while wire:
        assert wire[0] & 0xF0 == 0x80
        size, at = wire[1], 2
        if size == 126:
            size, at = int.from_bytes(wire[2:4], "big"), 4
            assert size > 125
        elif size == 127:
            size, at = int.from_bytes(wire[2:10], "big"), 10
            assert size > 65535
        messages.append((wire[0] & 0x0F, wire[at : at + size]))
        assert len(messages[-1][1]) == size
        wire = wire[at + size :]
    return messages


def put(outbox: Outbox, kind: int, number: int) -> None:
    frame = outbox.frame(kind, 20)
    match kind:
        case 1:
            frame.put_hello(bytes(16), bytes(16), number, 0, 0, 0, 0, 0, 0)
        case 2:
            frame.put_sent(bytes([number]) * 16, bytes(16), 0, False)
        case 3:
            frame.put_delivery(number, b"", 0)
        case 4:
            frame.put_drained(number)
        case 5:
            frame.put_error(number, "", 0)
        case _:
            frame.put_shutdown(number)


def read(payload: bytes) -> list[tuple[int, int]]:
    """The items of a frame as (kind, number), in the order in which a receiver handles them."""
    frame = parse_server_frame(payload)
    assert not frame.malformed
    items = [(HELLO, frame.hello.device)] if frame.hello else []
    items += [(RESULT, result.client_id[0]) for result in frame.results]
    items += [(DELIVERY, delivery.tag) for delivery in frame.deliveries]
    items += [(DRAINED, frame.drained)] if frame.drained is not None else []
    items += [(ERROR, error.code) for error in frame.errors]
    return items + ([(SHUTDOWN, frame.shutdown)] if frame.shutdown is not None else [])


def test_nothing_queued_is_nothing_to_write() -> None:
    outbox = Outbox(10, 1000)
    assert (outbox.size, outbox.take()) == (0, b"")


def test_what_is_queued_in_order_is_one_message() -> None:
    outbox = Outbox(10, 1000)
    for kind in (HELLO, RESULT, RESULT, DELIVERY, DELIVERY, DRAINED, ERROR, SHUTDOWN):
        put(outbox, kind, 7)
    ((opcode, payload),) = split(outbox.take())
    assert opcode == BINARY
    assert [kind for kind, _ in read(payload)] == [1, 2, 2, 3, 3, 4, 5, 6]
    assert outbox.size == 0


@given(st.lists(st.tuples(st.sampled_from([RESULT, DELIVERY, ERROR, PONG]), st.integers(1, 255)), max_size=60), st.integers(1, 8))
def test_a_receiver_handles_everything_in_the_order_it_was_queued(items: list[tuple[int, int]], most: int) -> None:
    outbox = Outbox(most, 300)
    for kind, number in items:
        if kind == PONG:
            outbox.add_message(PONG, bytes([number]))
        else:
            put(outbox, kind, number)
    handled = []
    for opcode, payload in split(outbox.take()):
        if opcode == PONG:
            handled.append((PONG, payload[0]))
            continue
        got = read(payload)
        assert sum(kind == DELIVERY for kind, _ in got) <= most
        assert len(payload) <= 300
        handled += got
    assert handled == items


def test_messages_of_every_header_size_leave_intact() -> None:
    outbox = Outbox(10, 10_000_000)
    payloads = [bytes([size % 251]) * size for size in (0, 1, 125, 126, 65535, 65536, 300_000)]
    for payload in payloads:
        outbox.add_message(BINARY, payload)
    assert split(outbox.take()) == [(BINARY, payload) for payload in payloads]
    for size in (100, 126, 65536, 300_000):
        outbox.frame(ERROR, size).put_error(1, "e" * size, 0)
        ((_, payload),) = split(outbox.take())
        assert [len(error.reason) for error in parse_server_frame(payload).errors] == [size]


def test_one_item_larger_than_a_message_goes_alone() -> None:
    outbox = Outbox(10, 100)
    put(outbox, DELIVERY, 1)
    outbox.frame(DELIVERY, 500).put_delivery(2, bytes(500), 0)
    put(outbox, DELIVERY, 3)
    sizes = [len(payload) for _, payload in split(outbox.take())]
    assert len(sizes) == 3
    assert sizes[1] > 500


def test_every_code_can_close_with_a_code_and_a_reason_rfc_6455_allows() -> None:
    for code, (status, reason) in closings().items():
        assert status in (1000, 1002, 1003, 1007, 1009, 1011, 1012) or 4000 <= status <= 4999, code
        assert len(reason) <= 123
    assert close_code(Code.BUSY) == 4503
    assert endings() == {code for code in Code if CATALOGUE[code].close_code}


def test_the_codes_the_transport_gives_are_those_of_the_catalogue() -> None:
    assert {name: Code[name] for name in FAULTS} == FAULTS
    assert set(FAULTS.values()) - {Code.BUSY} <= endings()
