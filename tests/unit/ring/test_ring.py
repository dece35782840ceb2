"""The packet ring: bounds, cursors, gaps, sound."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS_PER_MS, NS_PER_S
from agent.media.packets import AudioPacket, VideoPacket
from agent.ring.ring import Cursor, GopRead, PacketRing

FRAME_NS = 100 * NS_PER_MS
AUDIO_NS = 20 * NS_PER_MS


def make_ring(*, keep_s: float = 3.0, max_bytes: int = 1_000_000, audio_before_trigger: bool = True) -> PacketRing:
    return PacketRing(
        keep_ns=int(keep_s * NS_PER_S),
        max_bytes=max_bytes,
        frame_ns=FRAME_NS,
        audio_before_trigger=audio_before_trigger,
    )


def frame(number: int, gop: int = 10, size: int = 100) -> VideoPacket:
    return VideoPacket(bytes(size), number * FRAME_NS, is_keyframe=number % gop == 0)


def push(ring: PacketRing, first: int, last: int, gop: int = 10, size: int = 100) -> None:
    for number in range(first, last):
        ring.push_video(frame(number, gop, size))


def drain(cursor: Cursor) -> list[GopRead]:
    reads: list[GopRead] = []
    while (read := cursor.read()) is not None:
        reads.append(read)
        cursor.advance(read)
        if read.final:
            break
    return reads


def numbers(reads: list[GopRead]) -> list[int]:
    return [packet.pts_ns // FRAME_NS for read in reads for packet in read.video]


def test_a_trigger_reaches_back_to_the_keyframe_at_or_before_the_wanted_time() -> None:
    ring = make_ring()
    push(ring, 0, 55)
    cursor = ring.open_cursor(start_ns=25 * FRAME_NS, audio_from_ns=0)
    assert cursor.origin_ns == 20 * FRAME_NS
    exactly = ring.open_cursor(start_ns=30 * FRAME_NS, audio_from_ns=0)
    assert exactly.origin_ns == 30 * FRAME_NS


def test_seconds_bound_keeps_whole_gops_that_cover_what_was_promised() -> None:
    ring = make_ring(keep_s=3.0)
    push(ring, 0, 200)
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    newest_ns = ring.newest_video_ns
    assert newest_ns is not None
    assert cursor.origin_ns is not None
    assert newest_ns - cursor.origin_ns >= 3 * NS_PER_S
    assert newest_ns - cursor.origin_ns < 3 * NS_PER_S + 10 * FRAME_NS
    assert cursor.origin_ns % (10 * FRAME_NS) == 0
    assert not ring.evicted_by_bytes


def test_frames_before_the_first_keyframe_are_counted_and_not_kept() -> None:
    ring = make_ring()
    for number in range(3, 12):
        ring.push_video(frame(number))
    assert ring.dropped_frames == 7
    assert ring.open_cursor(start_ns=0, audio_from_ns=0).origin_ns == 10 * FRAME_NS


def test_a_stop_ends_with_the_last_frame_captured_at_or_before_it() -> None:
    ring = make_ring()
    push(ring, 0, 25)
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    cursor.stop_ns = 27 * FRAME_NS
    assert numbers(drain(cursor)) == list(range(20))
    push(ring, 25, 28)
    assert cursor.read() is None, "frame 27 is in, but nothing tells yet that it is the last one"
    push(ring, 28, 29)
    reads = drain(cursor)
    assert numbers(reads) == list(range(20, 28))
    assert reads[-1].final
    assert reads[-1].end_ns == 28 * FRAME_NS


def test_a_stop_right_before_a_keyframe_takes_the_whole_gop_and_ends() -> None:
    ring = make_ring()
    push(ring, 0, 21)
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    cursor.stop_ns = 19 * FRAME_NS
    reads = drain(cursor)
    assert numbers(reads) == list(range(20))
    assert reads[-1].final


def test_the_end_of_the_stream_gives_the_unfinished_gop_with_an_estimated_end() -> None:
    ring = make_ring()
    push(ring, 0, 14)
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    ring.end()
    reads = drain(cursor)
    assert numbers(reads) == list(range(14))
    assert reads[-1].final
    assert reads[-1].end_ns == 14 * FRAME_NS


def test_an_ended_ring_with_nothing_unread_still_says_that_it_is_over() -> None:
    ring = make_ring()
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    ring.end()
    read = cursor.read()
    assert read is not None
    assert read.final
    assert not read.video


def test_a_cursor_on_an_empty_ring_begins_with_the_next_keyframe() -> None:
    ring = make_ring()
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    before_ns = cursor.origin_ns
    push(ring, 10, 21)
    assert (before_ns, cursor.origin_ns) == (None, 10 * FRAME_NS)
    assert numbers(drain(cursor)) == list(range(10, 20))


def test_what_a_cursor_still_needs_outlives_the_seconds_bound() -> None:
    ring = make_ring(keep_s=1.0)
    push(ring, 0, 20)
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    origin_ns = cursor.origin_ns
    assert origin_ns is not None
    push(ring, 20, 300)
    assert numbers(drain(cursor)) == list(range(origin_ns // FRAME_NS, 290))
    assert ring.buffered_ns < 3 * NS_PER_S, "once read, it goes"


def test_the_byte_bound_is_hard_and_its_loss_is_an_explicit_gap() -> None:
    ring = make_ring(keep_s=100.0, max_bytes=5_000)
    push(ring, 0, 20)
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    push(ring, 20, 80)
    assert ring.payload_bytes <= 5_000
    assert ring.evicted_by_bytes
    reads = drain(cursor)
    gaps = cursor.take_gaps()
    assert [gap.frames for gap in gaps] == [10, 10, 10]
    assert gaps[0].from_ns == 0
    assert gaps[-1].to_ns == 30 * FRAME_NS
    assert numbers(reads) == list(range(30, 70))
    assert cursor.take_gaps() == []


def test_a_gop_larger_than_the_whole_bound_is_reported_and_not_retained() -> None:
    ring = make_ring(max_bytes=1_000)
    push(ring, 0, 10, size=200)
    assert ring.payload_bytes == 0
    assert ring.dropped_frames == 10
    push(ring, 10, 12, size=200)
    assert ring.payload_bytes == 400


def test_reading_ahead_moves_nothing_and_gives_sound_only_once() -> None:
    ring = make_ring()
    sound = 0
    for number in range(31):
        ring.push_video(frame(number))
        while sound * AUDIO_NS < number * FRAME_NS:
            ring.push_audio(AudioPacket(b"a", sound * AUDIO_NS, AUDIO_NS))
            sound += 1
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    first = cursor.read()
    assert first is not None
    second = cursor.read(first)
    assert second is not None
    assert cursor.read() == first
    times = [packet.pts_ns for read in (first, second) for packet in read.audio]
    assert times == [number * AUDIO_NS for number in range(len(times))]
    assert times[-1] == 2 * NS_PER_S - AUDIO_NS


def test_reading_ahead_of_what_was_overrun_ends_the_batch_and_the_next_read_finds_the_gap() -> None:
    ring = make_ring(keep_s=100.0, max_bytes=5_000)
    push(ring, 0, 31)
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    first = cursor.read()
    assert first is not None
    push(ring, 31, 90)
    assert cursor.read(first) is None
    cursor.advance(first)
    after = cursor.read()
    assert after is not None
    assert after.video[0].pts_ns == cursor.take_gaps()[-1].to_ns


def test_late_sound_goes_into_the_next_read() -> None:
    ring = make_ring()
    push(ring, 0, 11)
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    (first,) = drain(cursor)
    assert first.audio == ()
    for number in range(60):
        ring.push_audio(AudioPacket(b"a", number * AUDIO_NS, AUDIO_NS))
    push(ring, 11, 21)
    (second,) = drain(cursor)
    assert [packet.pts_ns for packet in second.audio] == [number * AUDIO_NS for number in range(60)]


def test_sound_is_not_even_kept_in_memory_before_a_trigger_unless_configured() -> None:
    ring = make_ring(audio_before_trigger=False)
    push(ring, 0, 5)
    ring.push_audio(AudioPacket(b"private", 4 * FRAME_NS, AUDIO_NS))
    assert ring.payload_bytes == 500
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=5 * FRAME_NS)
    ring.push_audio(AudioPacket(b"a", 5 * FRAME_NS - 1, AUDIO_NS))
    ring.push_audio(AudioPacket(b"b", 5 * FRAME_NS, AUDIO_NS))
    push(ring, 5, 11)
    (read,) = drain(cursor)
    assert [packet.data for packet in read.audio] == [b"b"]
    ring.push_audio(AudioPacket(b"c", 11 * FRAME_NS, AUDIO_NS))
    cursor.close()
    assert ring.payload_bytes == 11 * 100, "with the last reader its sound goes"


def test_closing_lets_go() -> None:
    ring = make_ring(keep_s=1.0)
    push(ring, 0, 20)
    cursor = ring.open_cursor(start_ns=0, audio_from_ns=0)
    push(ring, 20, 200)
    assert ring.buffered_ns > 15 * NS_PER_S
    cursor.close()
    cursor.close()
    assert ring.buffered_ns < 3 * NS_PER_S


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_whatever_happens_frames_are_read_once_in_order_or_reported_lost(data: st.DataObject) -> None:
    """Random pushes, GOPs, sizes, reads, failed writes, overlapping cursors and stops against simple counting."""
    max_bytes = data.draw(st.sampled_from([2_000, 20_000, 10**9]))
    ring = make_ring(keep_s=data.draw(st.sampled_from([0.0, 1.0, 4.0])), max_bytes=max_bytes)
    number = 0
    readers: list[tuple[Cursor, list[int], int, list[int]]] = []
    for _ in range(data.draw(st.integers(1, 60))):
        action = data.draw(st.sampled_from(["push", "push", "push", "open", "read", "peek", "stop"]))
        if action == "push":
            for index in range(data.draw(st.integers(1, 12))):
                size = data.draw(st.integers(1, 300))
                ring.push_video(VideoPacket(bytes(size), number * FRAME_NS, is_keyframe=index == 0))
                number += 1
            assert ring.payload_bytes <= max_bytes
        elif action == "open":
            cursor = ring.open_cursor(start_ns=data.draw(st.integers(0, max(1, number))) * FRAME_NS, audio_from_ns=0)
            start = number if cursor.origin_ns is None else cursor.origin_ns // FRAME_NS
            readers.append((cursor, [], start, []))
        elif readers:
            cursor, seen, _, lost = data.draw(st.sampled_from(readers))
            if action == "stop" and cursor.stop_ns is None:
                cursor.stop_ns = (number - 1) * FRAME_NS
            elif action == "peek":
                cursor.read()  # as before a write that fails
            elif (read := cursor.read()) is not None:
                seen += [packet.pts_ns // FRAME_NS for packet in read.video]
                cursor.advance(read)
    ring.end()
    for cursor, seen, start, lost in readers:
        seen += numbers(drain(cursor))
        for gap in cursor.take_gaps():
            lost += range(gap.from_ns // FRAME_NS, gap.from_ns // FRAME_NS + gap.frames)
        end = number if cursor.stop_ns is None else min(number, cursor.stop_ns // FRAME_NS + 1)
        assert seen == sorted(set(seen)), "no frame twice, none out of order"
        missing = set(range(start, end)) - set(seen) - set(lost)
        assert len(missing) <= ring.dropped_frames, "what is neither read nor in a gap never entered the ring"
        assert not set(seen) - set(range(start, end)), "nothing beyond the stop, nothing before the start"
