"""RFC 6455's framing, texts and closing handshake against a real port, through the echo."""

from __future__ import annotations

import os
import random
import struct

import pytest

from tests.integration.ws_peer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, Peer, frame, on_uvloop, serving

NORMAL, VIOLATION, BAD_TEXT, TOO_BIG = 1000, 1002, 1007, 1009
MIB = 1024 * 1024
# Around every boundary of the way a frame takes: header sizes, picows' buffer, the pieces larger frames go on as.
SIZES = [0, 1, 125, 126, 127, 1500, 1519, 1520, 1521, 1522, 1535, 3040, 3041, 65535, 65536, 200_000, 2 * MIB]


def pattern(size: int) -> bytes:
    return (bytes(i * 7 & 0xFF for i in range(1021)) * (size // 1021 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
@on_uvloop
async def test_a_message_of_any_size_comes_back(size: int) -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(frame(BINARY, pattern(size), mask=os.urandom(4)))
        assert await peer.frame() == Frame(True, BINARY, pattern(size))
        await peer.leave()


@on_uvloop
async def test_frames_cut_anywhere_are_read_the_same() -> None:
    stream = b"".join(frame(BINARY, pattern(size), mask=os.urandom(4)) for size in SIZES[:14])
    cuts = random.Random(7)
    async with serving() as served:
        peer = await Peer.open(served.address)
        at = 0
        while at < len(stream):
            step = cuts.choice([1, 2, 5, 700, 1535, 4000])
            peer.send(stream[at : at + step])
            await peer.writer.drain()
            at += step
        assert [await peer.frame() for _ in SIZES[:14]] == [Frame(True, BINARY, pattern(size)) for size in SIZES[:14]]
        await peer.leave()


@on_uvloop
async def test_a_message_sent_octet_by_octet_is_read() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        for octet in frame(TEXT, b"slowly" * 30):
            peer.send(bytes([octet]))
            await served.until(lambda: peer.writer.transport.get_write_buffer_size() == 0)
        assert await peer.frame() == Frame(True, TEXT, b"slowly" * 30)
        await peer.leave()


@on_uvloop
async def test_fragments_make_one_message_and_control_frames_may_stand_between() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(frame(TEXT, b"one ", fin=False), frame(PING, b"?"), frame(CONTINUATION, fin=False), frame(CONTINUATION, b"two"))
        assert await peer.frame() == Frame(True, PONG, b"?")
        assert await peer.frame() == Frame(True, TEXT, b"one two")
        await peer.leave()
        assert served.station.budget.used == 0


@on_uvloop
async def test_bytes_sent_together_with_the_head_are_not_lost() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address, first=frame(BINARY, b"early") + frame(BINARY, b"bird")[:3])
        assert await peer.frame() == Frame(True, BINARY, b"early")
        peer.send(frame(BINARY, b"bird")[3:])
        assert await peer.frame() == Frame(True, BINARY, b"bird")
        await peer.leave()


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(frame(BINARY, b"x", rsv=4), id="first reserved bit"),
        pytest.param(frame(BINARY, b"x", rsv=2), id="second reserved bit"),
        pytest.param(frame(PING, b"x", rsv=1), id="third reserved bit"),
        *[pytest.param(frame(opcode), id=f"opcode {opcode}") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
        pytest.param(frame(BINARY, b"x", mask=None), id="no mask"),
        pytest.param(frame(PING, b"x" * 126), id="ping of 126 bytes"),
        pytest.param(frame(CLOSE, b"\x03\xe8" + b"x" * 124), id="close of 126 bytes"),
        pytest.param(frame(PING, b"x", fin=False), id="fragmented ping"),
        pytest.param(frame(CLOSE, fin=False), id="fragmented close"),
        pytest.param(frame(CONTINUATION, b"x"), id="continuation of nothing"),
        pytest.param(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), id="start inside a message"),
        pytest.param(frame(TEXT, b"a", fin=False) + frame(BINARY, b"b", fin=False), id="another start inside a message"),
        pytest.param(frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b") + frame(CONTINUATION, b"c"), id="continuation after the end"),
        pytest.param(b"\x82\xfe\x00\x05" + bytes(9), id="16 bits for a small length"),
        pytest.param(b"\x82\xff" + struct.pack("!Q", 65535) + bytes(4), id="64 bits for a medium length"),
        pytest.param(b"\x82\xff" + struct.pack("!Q", 1 << 63) + bytes(4), id="highest bit of the length"),
    ],
)
@pytest.mark.requirement("WS-9")
@on_uvloop
async def test_a_breach_of_framing_closes_with_1002(bad: bytes) -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(frame(BINARY, b"good"), bad, frame(BINARY, b"never seen"))
        # The good message before it is answered, in whatever pieces all this came.
        assert await peer.frame() == Frame(True, BINARY, b"good")
        expected = [Frame(True, TEXT, b"ab")] if bad.startswith(frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b")) else []
        for echoed in expected:
            assert await peer.frame() == echoed
        assert await peer.closed_with() == VIOLATION
        assert served.station.refused == {24: 1}


@on_uvloop
async def test_a_bad_frame_sent_with_the_head_is_refused_as_well() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address, first=frame(3))
        assert await peer.closed_with() == VIOLATION


@pytest.mark.parametrize(
    "message",
    [
        pytest.param([frame(BINARY, b"", length=2 * MIB + 1)], id="one frame, told by its header"),
        pytest.param([frame(BINARY, b"", length=1 << 40)], id="a terabyte"),
        pytest.param(
            [frame(BINARY, bytes(MIB), fin=False), frame(CONTINUATION, bytes(MIB), fin=False), frame(CONTINUATION, b"x")], id="fragments"
        ),
    ],
)
@on_uvloop
async def test_a_message_over_the_limit_closes_with_1009(message: list[bytes]) -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(*message)
        assert await peer.closed_with() == TOO_BIG
        assert served.station.budget.used == 0


@on_uvloop
async def test_a_message_of_exactly_the_limit_is_taken_in_fragments_too() -> None:
    async with serving(limits={"message_bytes": 5000}) as served:
        peer = await Peer.open(served.address)
        peer.send(frame(BINARY, bytes(2500), fin=False), frame(CONTINUATION, bytes(2500)))
        assert await peer.frame() == Frame(True, BINARY, bytes(5000))
        await peer.leave()


TEXTS = {
    "ascii": b"plain",
    "two bytes": "Grüße".encode(),
    "three bytes": "κόσμε €".encode(),
    "four bytes": "\U0001f4ef \U0010ffff".encode(),
    "zero": b"\x00",
    "last before the surrogates": "\ud7ff\ue000".encode(),
}
NO_TEXTS = {
    "continuation first": b"\x80",
    "overlong slash": b"\xc0\xaf",
    "overlong three": b"\xe0\x9f\xbf",
    "overlong four": b"\xf0\x8f\xbf\xbf",
    "surrogate": b"\xed\xa0\x80",
    "above the range": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "never a byte of text": b"ok\xff",
    "cut off": "€".encode()[:2],
    "wrong continuation": b"\xe2\x28\xa1",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@on_uvloop
async def test_valid_text_comes_back_however_it_is_cut(text: bytes) -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        for cut in range(len(text) + 1):
            peer.send(frame(TEXT, text[:cut], fin=False), frame(CONTINUATION, text[cut:]))
            assert await peer.frame() == Frame(True, TEXT, text)
        await peer.leave()


@pytest.mark.parametrize("text", NO_TEXTS.values(), ids=NO_TEXTS.keys())
@on_uvloop
async def test_invalid_text_closes_with_1007_however_it_is_cut(text: bytes) -> None:
    async with serving() as served:
        for cut in range(len(text) + 1):
            peer = await Peer.open(served.address)
            peer.send(frame(TEXT, text[:cut], fin=False), frame(CONTINUATION, text[cut:]))
            assert await peer.closed_with() == BAD_TEXT


@on_uvloop
async def test_invalid_text_is_refused_before_its_message_ends() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(frame(TEXT, b"good so far", fin=False), frame(CONTINUATION, b"\xff", fin=False))
        assert await peer.closed_with() == BAD_TEXT


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])
@on_uvloop
async def test_a_close_is_answered_with_its_code(code: int) -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(frame(CLOSE, struct.pack("!H", code) + "tschüß".encode()))
        assert await peer.closed_with() == code


@on_uvloop
async def test_a_close_without_code_is_answered_with_1000() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(frame(CLOSE))
        assert await peer.closed_with() == NORMAL


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
@on_uvloop
async def test_a_close_with_a_code_no_one_may_send_is_a_breach(code: int) -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(frame(BINARY, b"good"), frame(CLOSE, struct.pack("!H", code)))
        assert (await peer.frame()).payload == b"good"
        assert await peer.closed_with() == VIOLATION


@pytest.mark.parametrize(
    ("payload", "code"), [(b"\x03", VIOLATION), (b"\x03\xe8\xff", BAD_TEXT), (b"\x03\xe8" + "€".encode()[:2], BAD_TEXT)]
)
@on_uvloop
async def test_a_malformed_close_is_refused(payload: bytes, code: int) -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(frame(CLOSE, payload))
        assert await peer.closed_with() == code


@on_uvloop
async def test_what_follows_a_close_is_ignored() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(frame(BINARY, b"before"), frame(CLOSE, b"\x03\xe8"), frame(BINARY, b"after"), frame(3), frame(CLOSE, b"\x03\xe9"))
        assert (await peer.frame()).payload == b"before"
        assert await peer.closed_with() == NORMAL


@on_uvloop
async def test_a_close_cut_into_octets_is_read() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        for octet in frame(BINARY, b"x") + frame(CLOSE, b"\x0f\xa0ends"):
            peer.send(bytes([octet]))
            await peer.writer.drain()
        assert (await peer.frame()).payload == b"x"
        assert await peer.closed_with() == 4000


@on_uvloop
async def test_a_peer_that_ends_without_close_is_let_go_after_its_answers() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(frame(BINARY, b"last words"))
        peer.writer.write_eof()
        assert (await peer.frame()).payload == b"last words"
        assert await peer.rest() == b""
        await served.until(lambda: served.station.open == 0)
        peer.drop()


@on_uvloop
async def test_every_ping_is_answered_in_order() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        pings = [b"%d" % i for i in range(10)]
        peer.send(*[frame(PING, ping) for ping in pings], frame(PONG, b"unasked"), frame(PING, b"x" * 125))
        assert [(await peer.frame()).payload for _ in pings] == pings
        assert await peer.frame() == Frame(True, PONG, b"x" * 125)
        await peer.leave()


@on_uvloop
async def test_a_flood_of_pings_is_answered_by_a_bounded_number_of_pongs_the_last_included() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(*[frame(PING, b"%d" % i) for i in range(20_000)], frame(BINARY, b"end"))
        pongs = 0
        while (answer := await peer.frame()).opcode == PONG:
            pongs += 1
            last = answer.payload
        assert answer.payload == b"end"
        while last != b"19999":
            last = (await peer.frame()).payload
            pongs += 1
        counters = served.station.counters()
        assert pongs <= 65 * counters["writes"]
        assert pongs + counters["pongs_dropped"] == 20_000
        await peer.leave()


@on_uvloop
async def test_random_bytes_never_harm_the_worker() -> None:
    chaos = random.Random(23)
    async with serving() as served:
        for _ in range(150):
            peer = await Peer.open(served.address)
            good = frame(BINARY, chaos.randbytes(40)) + frame(TEXT, b"text") + frame(PING, b"1")
            at = chaos.randrange(len(good))
            peer.send(good[:at] + chaos.randbytes(chaos.randrange(1, 400)) + good[at:])
            peer.writer.write_eof()
            await peer.rest()
            peer.drop()
        peer = await Peer.open(served.address)
        peer.send(frame(TEXT, b"still here"))
        assert (await peer.frame()).payload == b"still here"
        await peer.leave()
        assert served.station.counters()["faults"] == 0
