"""Pictures and sound changed by a forger who knows MP4 and H.264, without the key and with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.tamper.kind import Forger, Harm, Kind
from tests.tamper.log import Log
from tests.tamper.media import (
    SIGNATURE_UUID,
    Fragment,
    begin,
    fragments,
    joined,
    later,
    numbered,
    slower,
    with_samples,
    without_signatures,
)

SECTION = "Pictures and sound"
SEGMENT = "000001.m4s"
Remake = Callable[[list[Fragment]], list[Fragment]]


def remade(change: Remake) -> Harm:
    """A segment written anew; nothing else."""

    def harm(forger: Forger) -> None:
        before = forger.read(SEGMENT)
        forger.write(SEGMENT, joined(change(fragments(forger.path(SEGMENT)))))
        assert forger.read(SEGMENT) != before

    return harm


def vouched(change: Remake, also: Callable[[Log], object] = lambda _: None) -> Harm:
    """The same by whoever holds the camera's key: the records say the new hashes, and what `also` makes them say."""

    def harm(forger: Forger) -> None:
        remade(change)(forger)
        log = forger.log()
        also(log)
        log.vouch(SEGMENT)
        log.resign(forger.bases.camera.record_signer)

    return harm


def first(change: Callable[[Fragment], Fragment]) -> Remake:
    return lambda found: [found[0], change(found[1]), *found[2:]]


def unsigned(found: list[Fragment]) -> list[Fragment]:
    assert SIGNATURE_UUID in joined(found)
    return [without_signatures(fragment) for fragment in found]


def without_a_gop(found: list[Fragment]) -> list[Fragment]:
    return [found[0], *found[2:]]


def without_a_frame(fragment: Fragment) -> Fragment:
    """The third picture shows what the second did: a count that changed would show at once."""
    frames = list(fragment.samples[1])
    frames[2] = frames[1]
    return with_samples(fragment, 1, frames)


def silent(fragment: Fragment) -> Fragment:
    """Each sound is the first one again."""
    return with_samples(fragment, 2, [fragment.samples[2][0]] * len(fragment.samples[2]))


def gops_exchanged(found: list[Fragment]) -> list[Fragment]:
    return [found[0], found[2], found[1], *found[3:]]


def gop_doubled(found: list[Fragment]) -> list[Fragment]:
    return [found[0], found[1], *found[1:]]


def gops_counted_anew(found: list[Fragment]) -> list[Fragment]:
    """A GOP dropped, and those behind it numbered and timed as if it had never been."""
    gone = begin(found[2]) - begin(found[1])
    return [found[0], *(later(numbered(fragment, number), -gone) for number, fragment in enumerate(found[2:], 2))]


def drop_checkpoint(log: Log) -> None:
    """The records that go with `gops_counted_anew`, sums and all."""
    gone = log.first("checkpoint", 1)
    span = gone["end_media_90k"] - gone["first_media_90k"]
    del log.lines[log.at("checkpoint", 1)]
    for line in log.lines:
        if line.type == "checkpoint" and line.fields["fragment"] > 1:
            line.fields["fragment"] -= 1
            line.fields["first_media_90k"] -= span
            line.fields["end_media_90k"] -= span
    segment, close = log.first("segment"), log.first("recording-close")
    for name in ("frames", "fragments"):
        gone_of = gone["frames"] if name == "frames" else 1
        segment[name] -= gone_of
        close[name] -= gone_of
    segment["audio_frames"] -= gone["audio_frames"]
    segment["end_media_90k"] -= span
    close["end_media_90k"] -= span


def in_init(old: bytes, offset: int, new: bytes, *, signed: bool = False) -> Harm:
    """Bytes behind a box's type in init.mp4."""

    def harm(forger: Forger) -> None:
        data = forger.read("init.mp4")
        at = data.index(old) + offset
        assert data[at : at + len(new)] != new
        forger.write("init.mp4", data[:at] + new + data[at + len(new) :])
        if signed:
            log = forger.log()
            log.resign(forger.bases.camera.record_signer)

    return harm


def segments_exchanged(forger: Forger) -> None:
    one, two = forger.read("000001.m4s"), forger.read("000002.m4s")
    forger.write("000001.m4s", two)
    forger.write("000002.m4s", one)


def renumbered(forger: Forger) -> None:
    forger.path("000002.m4s").rename(forger.path("000003.m4s"))


def renamed_age(forger: Forger) -> None:
    forger.path("000002.m4s").rename(forger.path("000002.m4s.age"))


def joined_in_one(forger: Forger) -> None:
    """Both segments in the first file: every byte is there."""
    forger.write("000001.m4s", forger.read("000001.m4s") + forger.read("000002.m4s"))
    forger.path("000002.m4s").unlink()


def gop_of_another(base: str) -> Harm:
    """A GOP of another recording, with this one's number and time."""

    def harm(forger: Forger) -> None:
        mine = fragments(forger.path(SEGMENT))
        theirs = fragments(forger.bases.packages[base] / SEGMENT)
        forger.write(SEGMENT, joined([mine[0], replace(theirs[1]), *mine[2:]]))

    return harm


def samples_of_another(track_id: int, base: str) -> Remake | Harm:
    def harm(forger: Forger) -> None:
        mine = fragments(forger.path(SEGMENT))
        theirs = fragments(forger.bases.packages[base] / SEGMENT)
        forger.write(SEGMENT, joined([with_samples(mine[0], track_id, theirs[0].samples[track_id]), *mine[1:]]))

    return harm


def without_sound(fragment: Fragment) -> Fragment:
    """The sound's bytes are all zero, and as many."""
    return with_samples(fragment, 2, [bytes(len(sample)) for sample in fragment.samples[2]])


CHANGES: dict[str, Remake] = {
    "the signatures in the video stripped": unsigned,
    "a frame replaced by the one before": first(without_a_frame),
    "the sound replaced": first(silent),
    "the sound blanked in place": first(without_sound),
    "a GOP dropped": without_a_gop,
    "two GOPs exchanged": gops_exchanged,
    "a GOP doubled": gop_doubled,
    "a GOP dropped, the others counted and timed anew": gops_counted_anew,
    "a fragment's time changed (tfdt)": first(lambda fragment: later(fragment, 9000)),
    "a fragment's durations changed (tfhd)": first(lambda fragment: slower(fragment, 90)),
    "a fragment's number changed (mfhd)": first(lambda fragment: numbered(fragment, 7)),
}
SAME_COUNT = [name for name, change in CHANGES.items() if change not in (without_a_gop, gop_doubled, gops_counted_anew)]

KINDS = [
    *(Kind(SECTION, name, "signed video", remade(change)) for name, change in CHANGES.items()),
    *(Kind(SECTION, f"{name}, hashes and signatures made anew with the camera's key", "signed video",
           vouched(CHANGES[name])) for name in SAME_COUNT),
    Kind(SECTION, "a GOP dropped, everything counted, timed, hashed and signed anew with the camera's key",
         "signed video", vouched(gops_counted_anew, drop_checkpoint)),
    Kind(SECTION, "a GOP dropped and the signatures in the video stripped, all made anew with the camera's key",
         "signed video",
         vouched(lambda found: gops_counted_anew(unsigned(found)), drop_checkpoint)),
    Kind(SECTION, "a GOP of another recording of the camera", "plain", gop_of_another("sibling")),
    Kind(SECTION, "a GOP of another camera", "plain", gop_of_another("other camera")),
    Kind(SECTION, "the pictures of another recording", "plain", samples_of_another(1, "sibling")),  # type: ignore[arg-type]
    Kind(SECTION, "init.mp4 with another timescale", "plain", in_init(b"mdhd", 16, (45_000).to_bytes(4, "big"))),
    Kind(SECTION, "init.mp4 with another picture size", "plain", in_init(b"avc1", 28, b"\0\x20")),
    Kind(SECTION, "init.mp4 with other parameter sets", "plain", in_init(b"avcC", 5, b"\x64")),
    Kind(SECTION, "init.mp4 with an edit list's room", "plain", in_init(b"mvhd", 20, b"\0\0\0\x09")),
    Kind(SECTION, "two segments exchanged", "plain", segments_exchanged),
    Kind(SECTION, "a segment renumbered", "plain", renumbered),
    Kind(SECTION, "a segment called encrypted", "plain", renamed_age),
    Kind(SECTION, "two segments joined in one file", "plain", joined_in_one),
]  # fmt: skip
