"""Readers of video: boxes, fragments, NAL units, SEIs, signed streams and files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO

from rich.console import Console

from agent.cli.verify_video import print_video_report
from agent.encryption.identity import Identities
from agent.errors import EvidenceDamagedError
from agent.media.mp4 import Mp4Error, fragment_info, walk, whole_fragments
from agent.signing.file import read_file
from agent.signing.key import StreamKey
from agent.signing.nal import SEI, NalError, escape, split_byte_stream, split_sample, unescape
from agent.signing.reader import StreamReader
from agent.signing.sei import MediaSigningSei, SeiError, parse_sei
from agent.verify.finding import Findings
from agent.verify.media_job import Checkpoint, FileSum, MediaJob
from agent.verify.plain import PlainChecker
from agent.verify.video_file import check_video_file
from tests.fuzz.artefacts import Artefacts
from tests.fuzz.target import DefectError, Target

_NO_HASH = "0" * 64


def named(*names: str) -> Callable[[Artefacts], Sequence[bytes]]:
    """Seeds that are artefacts as they lie."""
    return lambda artefacts: [artefacts.one(name) for name in names]


def _walk(_: Artefacts, data: bytes) -> None:
    end = 0
    for box in walk(data):
        if box.offset != end or not box.offset < box.end <= len(data):
            raise DefectError(f"After byte {end} came {box}.")
        end = box.end


def _moof(_: Artefacts, data: bytes) -> None:
    fragment_info(data)


def _fragments(_: Artefacts, data: bytes) -> None:
    end = 0
    for span in whole_fragments(BytesIO(data)):
        if not end <= span.offset < span.end <= len(data):
            raise DefectError(f"After byte {end} came {span}.")
        end = span.end


def moofs(artefacts: Artefacts) -> list[bytes]:
    """Each `moof` of a real file."""
    data = artefacts.one("fragments.m4s")
    return [data[box.offset : box.end] for box in walk(data) if box.type == b"moof"]


class OpenIdentities(Identities):
    """Opens nothing: what it is given is the plaintext already, in pieces of a prime length."""

    def __init__(self) -> None:
        super().__init__([])

    def decrypt(self, cipher: Iterator[bytes], take: Callable[[bytes], None]) -> str | None:
        for chunk in cipher:
            for at in range(0, len(chunk), 4093):
                take(chunk[at : at + 4093])
        return None


def _plain(artefacts: Artefacts, data: bytes) -> None:
    path = artefacts.work / "plain"
    path.write_bytes(data)
    half = FileSum(len(data) // 2, _NO_HASH)
    checkpoint = Checkpoint(1, 1, half.bytes, _NO_HASH, 0, 1, 1, 0, plain=FileSum(len(data), _NO_HASH))
    job = MediaJob("id", "000001.m4s.age", "whole", len(data), _NO_HASH, [checkpoint], plain=half)
    with path.open("rb", buffering=0) as file:
        PlainChecker(OpenIdentities(), Findings())(job, file)


def _byte_stream(_: Artefacts, data: bytes) -> None:
    for unit in split_byte_stream(data):
        body = data[unit.start : unit.end]
        if escape(unescape(body)) != body:
            raise DefectError("escape does not give back what unescape took.")


def _sample(_: Artefacts, data: bytes) -> None:
    split_sample(data[1:], data[0] if data else 0)


def _samples(artefacts: Artefacts) -> list[bytes]:
    data = artefacts.one("stream.h264")[:8000]
    units = [data[unit.start : unit.end] for unit in split_byte_stream(data)]
    return [
        bytes([width])
        + b"".join(len(unit).to_bytes(width, "big") + unit for unit in units if len(unit) < 1 << 8 * width)
        for width in (1, 2, 4)
    ]


def _sei(_: Artefacts, data: bytes) -> None:
    parse_sei(data)


def _seis(artefacts: Artefacts) -> list[bytes]:
    data = artefacts.one("stream.h264")
    return [data[unit.start : unit.end] for unit in split_byte_stream(data) if unit.type == SEI]


def _key(_: Artefacts, data: bytes) -> None:
    """The certificate chain in a SEI, with a signature that is none."""
    StreamKey().problem(MediaSigningSei(False, b"document", None, b"", None, data, b"\x30\x06\x02\x01\x01\x02\x01\x01"))


def _stream(_: Artefacts, data: bytes) -> None:
    """Each NAL unit as an access unit of its own; what cannot be split goes where `read_file` sends it."""
    reader = StreamReader()
    numbers = []
    for at, unit in enumerate(data.split(b"\x00\x00\x00\x01")):
        picture = b"\x00\x00\x01" + unit
        try:
            units = split_byte_stream(picture)
        except NalError as error:
            findings = reader.unreadable(str(error), at / 10)
        else:
            findings = reader.picture(picture, units, at / 10)
        numbers += [finding.number for finding in findings]
    numbers += [finding.number for finding in reader.end()]
    if numbers != list(range(1, len(numbers) + 1)):
        raise DefectError(f"The GOPs came out as {numbers[:50]}.")


def _file(_: Artefacts, data: bytes) -> None:
    read_file(BytesIO(data))


def _video(artefacts: Artefacts, data: bytes) -> None:
    """`bodycam verify FILE`: a video alone, in the words for people and for programs."""
    path = artefacts.work / "video.mp4"
    path.write_bytes(data)
    report = check_video_file(path, artefacts.roots)
    json.dumps(report.to_json())
    with io.TextIOWrapper(io.BytesIO(), "utf-8") as page:
        print_video_report(Console(file=page, width=100, highlight=False, emoji=False), report)
        page.flush()


def _chains(artefacts: Artefacts) -> list[bytes]:
    found = [parse_sei(unit) for unit in _seis(artefacts)]
    return [sei.chain_pem for sei in found if sei is not None and sei.chain_pem is not None][:1]


def _streams(artefacts: Artefacts) -> list[bytes]:
    return [artefacts.one("stream.h264")]


TARGETS = (
    Target("mp4-walk", _walk, named("stream.mp4", "fragments.m4s"), (Mp4Error,), tries=600),
    Target("mp4-moof", _moof, moofs, (Mp4Error,), tries=1000),
    Target("mp4-fragments", _fragments, named("fragments.m4s"), tries=600),
    Target("mp4-plain", _plain, named("fragments.m4s"), tries=300),
    Target("nal-byte-stream", _byte_stream, _streams, (NalError,), tries=150),
    Target("nal-sample", _sample, _samples, (NalError,), tries=600),
    Target("sei", _sei, _seis, (SeiError,), tries=1500),
    Target("sei-key", _key, _chains, tries=300),
    Target("signed-stream", _stream, _streams, tries=60),
    Target("video-file", _video, named("stream.mp4", "stream.h264"), (EvidenceDamagedError,), tries=40),
    Target("signed-file", _file, named("stream.mp4", "stream.h264"), (EvidenceDamagedError,), tries=100),
)
