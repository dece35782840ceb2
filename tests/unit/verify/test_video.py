"""The signatures in the video as `bodycam verify` reads them: in vaults, packages and in a video file by itself."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from agent.cli.verify import verify
from agent.cli.verify_video import print_video_report
from agent.encryption.identity import Identities
from agent.errors import EvidenceDamagedError
from agent.media.mp4 import Mp4Error, walk, whole_fragments
from agent.signing.finding import GopFinding, GopState
from agent.signing.sei import UUID
from agent.trust.certificates import pem
from agent.verify.finding import Code, Finding, Severity
from agent.verify.media_job import Checkpoint, MediaJob
from agent.verify.report import Report
from agent.verify.verify import verify_path
from agent.verify.video import VideoCheck
from agent.verify.video_file import VideoFileReport, check_video_file
from agent.verify.video_fragments import FragmentReader
from agent.verify.video_report import SeenVideo, video_findings
from tests.support.bench import rebooted
from tests.support.evidence_key import EVIDENCE
from tests.support.identity import BENCH_IDENTITY, BenchIdentity, make_identity
from tests.support.packages import offloaded
from tests.support.signed_vault import SignedVaultBuilder, signed_bench
from tests.unit.signing.streams import FailingSigner
from tests.unit.verify.tampering import flip

OTHER = make_identity()
VIDEO_CODES = {Code.VIDEO_SIGNED, Code.VIDEO_GOP, Code.VIDEO_KEY, Code.VIDEO_UNSIGNED}


def check(path: Path, *, identities: Identities | None = None, video: bool = True) -> Report:
    return verify_path(path, roots=[BENCH_IDENTITY.root], identities=identities, video=video)


def of_video(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.code in VIDEO_CODES]


def only(report: Report, code: Code, severity: Severity) -> Finding:
    (finding,) = of_video(report)
    assert (finding.code, finding.severity) == (code, severity), finding.sentence
    assert finding.recording_id is not None
    return finding


def segments(vault: Path) -> list[Path]:
    return sorted(vault.glob("recordings/*/0*"))


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of eleven GOPs with sound, pre-event from the middle of the stream."""
    vault = tmp_path_factory.mktemp("filmed") / "vault"
    bench = signed_bench(vault).start()
    bench.run_for(6.4)
    bench.record(7)
    return vault


@pytest.fixture
def vault(filmed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filmed, tmp_path / "vault"))


def joined(vault: Path) -> bytes:
    """`cat init.mp4 0*.m4s`."""
    (recording,) = (vault / "recordings").iterdir()
    return b"".join((recording / name).read_bytes() for name in ["init.mp4", *(p.name for p in segments(vault))])


# -- vaults and packages ----------------------------------------------------------------------------------------


def test_a_good_recording_is_noted_with_its_counts(vault: Path) -> None:
    finding = only(check(vault), Code.VIDEO_SIGNED, Severity.NOTE)
    assert "fit 10 of 11 GOPs; 1 had none yet" in finding.sentence


def test_the_rest_of_the_report_is_the_same_without(vault: Path) -> None:
    flip(segments(vault)[1], 5000)
    seen, unseen = check(vault), check(vault, video=False)
    assert [finding for finding in seen.findings if finding.code not in VIDEO_CODES] == list(unseen.findings)
    assert of_video(seen)


def test_a_package_is_read_like_a_vault(tmp_path: Path) -> None:
    builder = SignedVaultBuilder(tmp_path / "vault")
    recording_id = builder.record(5)
    package = offloaded(builder, tmp_path / "dock")[recording_id]
    finding = only(check(package), Code.VIDEO_SIGNED, Severity.NOTE)
    assert "fit 4 of 5 GOPs" in finding.sentence


def test_a_changed_picture_names_its_gop(vault: Path, filmed: Path) -> None:
    flip(segments(vault)[2], _last_video_byte(segments(filmed)[2], 0) - 3)
    report = check(vault)
    finding = only(report, Code.VIDEO_GOP, Severity.FAIL)
    assert finding.sentence.startswith("1 GOP does not fit the signatures in the video either, the first at 00:04.800")
    assert "That follows from what is wrong with 000003.m4s" in finding.sentence
    assert [found.subject for found in report.findings if found.code is Code.CHECKPOINT_HASH] == [finding.follows]
    assert not report.ok


def _last_video_byte(path: Path, nth: int) -> int:
    """Offset behind the last picture of a segment's nth fragment."""
    data = path.read_bytes()
    with path.open("rb") as file:
        span = list(whole_fragments(file))[nth]
    (fragment,) = FragmentReader().take(data[span.offset : span.end])
    return data.index(bytes(fragment.samples[-1]), span.offset) + len(fragment.samples[-1])


def test_a_segment_that_is_gone_is_a_hole_in_the_stream(vault: Path) -> None:
    segments(vault)[2].unlink()
    report = check(vault)
    finding = only(report, Code.VIDEO_GOP, Severity.FAIL)
    assert finding.sentence.startswith("2 GOPs do not fit")
    assert [found.subject for found in report.findings if found.code is Code.SEGMENT_MISSING] == [finding.follows]


def test_a_changed_signature_accuses_no_other_camera(vault: Path) -> None:
    """A bit of the certificate in a SEI: the signature of a GOP before it does not fit, and nothing more is said."""
    path = segments(vault)[2]
    at = path.read_bytes().index(b"-----BEGIN CERTIFICATE-----")
    flip(path, at + 100)
    report = check(vault)
    finding = only(report, Code.VIDEO_GOP, Severity.FAIL)
    assert "another certificate" not in finding.sentence
    assert finding.follows == f"{report.recordings[0].recording_id}/{path.name}"


def test_a_video_that_does_not_fit_while_its_bytes_are_as_signed_stands_for_itself() -> None:
    seen = SeenVideo("x")
    seen.take(GopFinding(3, 2.0, 10, GopState.INVALID, "Its pictures are not those that were signed."), 90_000, 360_000)
    seen.seis = 1
    for span, follows in (((0, 90_000), None), ((360_000, 400_000), None), ((300_000, 400_000), "x/000001.m4s")):
        hurt = Finding(Code.CHECKPOINT_HASH, Severity.FAIL, "x/000001.m4s", "", recording_id="x", media_90k=span)
        (found,) = video_findings([seen], [hurt], ())
        assert found.follows == follows
        assert found.sentence.startswith("GOP 3, at 2.000 s of the video, fails") == (follows is None)


def test_a_film_that_plays_at_another_speed_is_told(filmed: Path, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(joined(filmed))
    report = check_video_file(path, [BENCH_IDENTITY.root])
    assert report.lasted_s is not None
    assert report.lasted_s[0] == pytest.approx(report.lasted_s[1], abs=0.2)
    assert not report.speed_differs
    out = StringIO()
    print_video_report(Console(file=out, width=80, highlight=False), report)
    said = out.getvalue().splitlines()
    assert [line for line in said if line != line.rstrip() or (len(line) > 80 and "File" not in line)] == []
    assert "Of the last GOP, from" in " ".join(out.getvalue().split())
    slow = check_video_file(path, [BENCH_IDENTITY.root])
    slow.summary._valid_end_s = (slow.summary._valid_end_s or 0.0) + 3.0
    assert slow.speed_differs
    print_video_report(Console(file=out, width=80, highlight=False), slow)
    assert "somebody changed how fast it plays" in " ".join(out.getvalue().split())


def test_a_segment_cut_short_says_where_it_cannot_be_read(vault: Path) -> None:
    data = segments(vault)[-1].read_bytes()
    segments(vault)[-1].write_bytes(data[:-100])
    sentences = [finding.sentence for finding in of_video(check(vault))]
    assert any("It ends inside a fragment." in sentence for sentence in sentences)


@pytest.mark.parametrize("key", [OTHER.signer, None], ids=["another key", "no key"])
def test_whose_key_signed_the_video(tmp_path: Path, key: object) -> None:
    bench = signed_bench(tmp_path / "vault", key=key).start()  # type: ignore[arg-type]
    bench.run_for(1)
    bench.record(4)
    report = check(tmp_path / "vault")
    if key is None:
        only(report, Code.VIDEO_UNSIGNED, Severity.NOTE)
        assert report.ok
        return
    only(report, Code.VIDEO_KEY, Severity.FAIL)
    assert not report.ok
    assert {verdict.aspect.value for verdict in report.recordings[0].aspects if verdict.standing == "fails"} == {
        "integrity"
    }


def test_a_signer_that_fails_to_the_end_is_a_warning(tmp_path: Path) -> None:
    signer = FailingSigner(BENCH_IDENTITY.signer)
    signer.failing = False
    bench = signed_bench(tmp_path / "vault", key=signer).start()
    bench.run_for(3)
    bench.at(bench.clock.boottime_ns() + 2_000_000_000, lambda: setattr(signer, "failing", True))
    bench.record(12)
    report = check(tmp_path / "vault")
    assert report.ok
    by_code = {finding.code: finding for finding in of_video(report)}
    assert by_code.keys() == {Code.VIDEO_UNSIGNED, Code.VIDEO_SIGNED}
    assert by_code[Code.VIDEO_UNSIGNED].severity is Severity.WARN
    assert "could not be signed in the video" in by_code[Code.VIDEO_UNSIGNED].sentence


def test_a_signer_that_comes_back_leaves_nothing_to_warn_of(tmp_path: Path) -> None:
    signer = FailingSigner(BENCH_IDENTITY.signer)
    signer.failing = False
    bench = signed_bench(tmp_path / "vault", key=signer).start()
    bench.run_for(3)
    start_ns = bench.clock.boottime_ns()
    bench.at(start_ns + 2_000_000_000, lambda: setattr(signer, "failing", True))
    bench.at(start_ns + 5_000_000_000, lambda: setattr(signer, "failing", False))
    bench.record(8)
    only(check(tmp_path / "vault"), Code.VIDEO_SIGNED, Severity.NOTE)


def test_a_signer_that_never_worked_is_a_warning_however_short_the_recording(tmp_path: Path) -> None:
    bench = signed_bench(tmp_path / "vault", key=FailingSigner(BENCH_IDENTITY.signer)).start()
    bench.run_for(1)
    bench.record(2.5)
    report = check(tmp_path / "vault")
    only(report, Code.VIDEO_UNSIGNED, Severity.WARN)
    assert report.ok


def test_encrypted_video_is_read_with_the_key_only(tmp_path: Path) -> None:
    bench = signed_bench(tmp_path / "vault", recipients=(EVIDENCE.recipient,)).start()
    bench.run_for(5)
    bench.record(6)
    assert of_video(check(tmp_path / "vault")) == []
    finding = only(check(tmp_path / "vault", identities=EVIDENCE.identities), Code.VIDEO_SIGNED, Severity.NOTE)
    assert "; 1 had none yet" in finding.sentence


@pytest.mark.parametrize("recipients", [(), (EVIDENCE.recipient,)], ids=["clear", "encrypted"])
def test_after_a_power_cut_the_end_is_pending_and_what_lies_behind_it_is_not_held_against_the_camera(
    tmp_path: Path, recipients: tuple[str, ...]
) -> None:
    bench = signed_bench(tmp_path / "vault", recipients=recipients).start()
    bench.run_for(5)
    bench.double_press(bench.clock.boottime_ns() + 500_000_000)
    bench.run_for(4.6)
    # Power goes while the next fragment is being written; of its pages some never came.
    newest = segments(tmp_path / "vault")[-1]
    if not recipients:
        fragment = bytearray(newest.read_bytes())
        with newest.open("rb") as file:
            span = list(whole_fragments(file))[-1]
        again = fragment[span.offset : span.end]
        again[-200:] = bytes(200)
        newest.write_bytes(bytes(fragment + again + again[:300]))
    signed_bench(tmp_path / "vault", clock=rebooted(bench.clock, 400), recipients=recipients).start()
    report = check(tmp_path / "vault", identities=EVIDENCE.identities)
    assert report.ok
    finding = only(report, Code.VIDEO_SIGNED, Severity.NOTE)
    assert "1 had none yet" in finding.sentence


def test_a_gap_that_the_camera_tells_of_is_no_missing_gop(tmp_path: Path) -> None:
    builder = SignedVaultBuilder(tmp_path / "vault")
    running = builder.begin(max_bytes=60_000, pad_bytes=20_000)
    builder.feed(running, 3)
    builder.push(running, 6)
    builder.work()
    builder.feed(running, 3)
    builder.stop(running)
    report = check(builder.root)
    assert Code.GAP in {finding.code for finding in report.findings}
    assert report.ok
    only(report, Code.VIDEO_SIGNED, Severity.NOTE)


def test_what_a_failed_write_left_is_not_read_twice(tmp_path: Path) -> None:
    builder = SignedVaultBuilder(tmp_path / "vault", segment_s=10)
    running = builder.begin()
    builder.feed(running, 2)
    builder.filesystem.fail_next_sync_of = ".m4s"
    builder.feed(running, 1)
    builder.retry()
    builder.feed(running, 2)
    builder.stop(running)
    assert len(segments(builder.root)) == 2
    finding = only(check(builder.root), Code.VIDEO_SIGNED, Severity.NOTE)
    assert "fit 4 of 5 GOPs" in finding.sentence


def test_overlapping_recordings_are_streams_of_their_own(tmp_path: Path) -> None:
    builder = SignedVaultBuilder(tmp_path / "vault")
    one, two = builder.begin(), builder.begin()
    for _ in range(5):
        builder.feed(one, 1)
        builder.feed(two, 1)
    builder.stop(two)
    builder.stop(one)
    assert [finding.code for finding in of_video(check(builder.root))] == [Code.VIDEO_SIGNED] * 2


# -- a video file by itself -------------------------------------------------------------------------------------


def written(tmp_path: Path, data: bytes, name: str = "film.mp4") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def ffmpeg(tmp_path: Path, source: Path, *options: str, before: tuple[str, ...] = ()) -> Path:
    target = tmp_path / "made.mp4"
    command = ["ffmpeg", "-v", "error", "-nostdin", *before, "-i", str(source), "-c", "copy", *options, str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target


def fragments(data: bytes) -> tuple[bytes, list[bytes]]:
    """What stands in front of the fragments, and these."""
    start = next(box.offset for box in walk(data) if box.type == b"moof")
    rest = data[start:]
    return data[:start], [rest[span.offset : span.end] for span in whole_fragments(BytesIO(rest))]


def read(path: Path, roots: list[x509.Certificate] | None = None) -> VideoFileReport:
    return check_video_file(path, [BENCH_IDENTITY.root] if roots is None else roots)


def test_a_joined_recording_is_good_and_says_whose_it_is(filmed: Path, tmp_path: Path) -> None:
    report = read(written(tmp_path, joined(filmed)))
    assert report.ok
    assert report.summary.counts == {GopState.VALID: 10, GopState.PENDING: 1}
    assert report.vendor is not None
    assert report.vendor.serial_number == "CAM-TEST"
    assert report.certificate is not None
    assert "CAM-TEST" in report.certificate.subject
    assert report.claimed is not None
    assert report.claimed[0] < report.claimed[1]
    assert report.summary.pending_from_s == pytest.approx(9.4, abs=1)


def test_a_remuxed_copy_and_one_without_sound_are_good(filmed: Path, tmp_path: Path) -> None:
    source = written(tmp_path, joined(filmed))
    for options in (("-movflags", "faststart"), ("-an", "-y")):
        report = read(ffmpeg(tmp_path, source, *options))
        assert report.ok
        assert report.summary.counts[GopState.VALID] == 10


def test_a_piece_cut_at_keyframes_is_good(filmed: Path, tmp_path: Path) -> None:
    source = written(tmp_path, joined(filmed))
    report = read(ffmpeg(tmp_path, source, "-t", "5", before=("-ss", "3.5")))
    assert report.ok
    assert 4 <= report.summary.counts[GopState.VALID] < 10


def test_stripped_of_its_signatures_it_says_that_there_is_none(filmed: Path, tmp_path: Path) -> None:
    source = written(tmp_path, joined(filmed))
    report = read(ffmpeg(tmp_path, source, "-bsf:v", "filter_units=remove_types=6"))
    assert not report.ok
    assert not report.is_signed
    assert report.conclusion.startswith("There is no signature in this video")


def test_a_dropped_gop_is_missed(filmed: Path, tmp_path: Path) -> None:
    head, parts = fragments(joined(filmed))
    del parts[5]
    report = read(written(tmp_path, head + b"".join(parts)))
    assert not report.ok
    assert report.summary.first_bad is not None
    assert report.summary.first_bad.number in (5, 6)
    assert "first bad one" in report.conclusion


def test_a_flipped_bit_of_a_picture_is_named_with_its_time(filmed: Path, tmp_path: Path) -> None:
    head, parts = fragments(joined(filmed))
    (fragment,) = FragmentReader().take(parts[6])
    end = parts[6].index(bytes(fragment.samples[-1])) + len(fragment.samples[-1])
    changed = bytearray(parts[6])
    changed[end - 3] ^= 4
    report = read(written(tmp_path, head + b"".join([*parts[:6], bytes(changed), *parts[7:]])))
    assert not report.ok
    first_bad = report.summary.first_bad
    assert first_bad is not None
    assert (first_bad.number, first_bad.state) == (7, GopState.INVALID)
    assert first_bad.start_s == pytest.approx(fragment.begin_90k / 90_000, abs=0.01)


def test_another_recording_s_signatures_do_not_fit(filmed: Path, tmp_path: Path) -> None:
    """Each SEI's bytes are replaced by those of the GOP at the same place of another recording."""
    bench = signed_bench(tmp_path / "other").start()
    bench.run_for(6.4 + 20)  # counters and times differ, lengths do not
    bench.record(7)
    mine, theirs = joined(filmed), joined(tmp_path / "other")
    spans, donors = _seis(mine), _seis(theirs)
    changed = bytearray(mine)
    for (start, end), (from_, until) in zip(spans[2:], donors[2:], strict=False):
        if end - start == until - from_:
            changed[start:end] = theirs[from_:until]
    assert changed != mine
    report = read(written(tmp_path, bytes(changed)))
    assert not report.ok
    assert report.summary.first_bad is not None


def _seis(data: bytes) -> list[tuple[int, int]]:
    """Where SEIs of the specification lie in samples whose length fields have four bytes."""
    found = []
    at = data.find(UUID)
    while at >= 0:
        start = data.rindex(b"\x06\x05", 0, at)
        (size,) = struct.unpack_from(">I", data, start - 4)
        found.append((start, start + size))
        at = data.find(UUID, at + 1)
    return found


def test_another_camera_s_video_is_good_but_not_under_this_root(tmp_path: Path) -> None:
    bench = signed_bench(tmp_path / "vault", key=OTHER.signer).start()
    bench.run_for(1)
    bench.record(4)
    path = written(tmp_path, joined(tmp_path / "vault"))
    assert read(path, [OTHER.root]).ok
    assert check_video_file(path, None).ok
    foreign = read(path)
    assert not foreign.ok
    assert foreign.chain_problems
    assert "certificate" in foreign.conclusion


def test_a_camera_whose_signer_failed_leaves_a_video_that_proves_nothing(tmp_path: Path) -> None:
    bench = signed_bench(tmp_path / "vault", key=FailingSigner(BENCH_IDENTITY.signer)).start()
    bench.run_for(1)
    bench.record(8)
    report = read(written(tmp_path, joined(tmp_path / "vault")))
    assert not report.ok
    assert report.is_signed
    assert report.certificate is None
    assert "Not all of this video is signed" in report.conclusion


def test_an_init_file_alone_has_nothing_to_check(filmed: Path, tmp_path: Path) -> None:
    head, _ = fragments(joined(filmed))
    report = read(written(tmp_path, head))
    assert not report.ok
    assert report.conclusion == "There is no picture in this file."


@pytest.mark.parametrize("what", ["text", "segment"])
def test_what_is_no_video_says_what_to_do(filmed: Path, tmp_path: Path, what: str) -> None:
    data = b"not a video at all" if what == "text" else fragments(joined(filmed))[1][0]
    with pytest.raises(EvidenceDamagedError, match=r"join it behind its init\.mp4") as raised:
        read(written(tmp_path, data))
    assert raised.value.exit_code == 1


def test_an_encrypted_segment_says_how_to_open_it(tmp_path: Path) -> None:
    with pytest.raises(EvidenceDamagedError, match="age -d"):
        read(written(tmp_path, b"age", "000001.m4s.age"))


# -- the command ------------------------------------------------------------------------------------------------


def test_the_command_for_people_and_for_programs(
    filmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, joined(filmed))
    root = tmp_path / "root.pem"
    root.write_bytes(pem([BENCH_IDENTITY.root]))
    assert verify([path], root=root, as_json=False) == 0
    said = " ".join(capsys.readouterr().out.split())
    for part in ("10 of 11 GOPs", "ORIGIN holds", "TIME open", "nothing here vouches", "do not prove", "The sound"):
        assert part in said
    assert verify([path, filmed], root=root, as_json=True) == 0
    video, vault = json.loads(capsys.readouterr().out)
    assert (video["kind"], video["states"]["valid"]["gops"], video["first_bad"]) == ("video", 10, None)
    assert vault["kind"] == "vault"
    assert "VIDEO_SIGNED" in {finding["code"] for finding in vault["findings"]}
    assert verify([filmed], root=root, video=False, as_json=True) == 0
    assert "VIDEO_SIGNED" not in capsys.readouterr().out


def test_the_command_names_the_first_bad_gop_and_keeps_control_characters_to_itself(
    filmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, parts = fragments(joined(filmed))
    del parts[5]
    assert verify([written(tmp_path, head + b"".join(parts))], root=None, as_json=False) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "is the first bad one." in said
    assert "GOPs are missing before it." in said
    bench = signed_bench(tmp_path / "vault")
    object.__setattr__(bench.settings.device, "id", "\x1b[31mCAM")
    bench.start().run_for(1)
    bench.record(4)
    assert verify([written(tmp_path, joined(tmp_path / "vault"))], root=None, as_json=False) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "?[31mCAM" in said


# -- fragments in pieces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_fragments_come_whole_whatever_the_pieces(filmed: Path, size: int) -> None:
    data = b"".join(path.read_bytes() for path in segments(filmed))
    filled = struct.pack(">I4s", 20, b"free") + bytes(12) + data + struct.pack(">I4s", 8, b"free")
    reader = FragmentReader()
    found = [f for at in range(0, len(filled), size) for f in reader.take(filled[at : at + size])]
    assert [fragment.number for fragment in found] == list(range(1, 12))
    assert not reader.in_fragment
    assert all(fragment.samples for fragment in found)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_hostile_fragments_end_in_an_answer_or_are_refused(filmed: Path, data: st.DataObject) -> None:
    whole = bytearray(segments(filmed)[0].read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, 700))] ^= data.draw(st.integers(1, 255))
    reader = FragmentReader()
    try:
        taken = list(reader.take(bytes(whole)))
    except Mp4Error:
        return
    assert sum(len(sample) for fragment in taken for sample in fragment.samples) <= len(whole)


def box(type_: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), type_) + body


def fragment_with(
    runs: list[bytes], media: bytes = bytes(100), *, flags: int = 0x020018, default_bytes: int = 10
) -> bytes:
    """A moof of one video track with these trun contents, and its mdat. Offsets count from the moof."""
    tfhd = box(b"tfhd", struct.pack(">IIII", flags, 1, 3000, default_bytes))
    tfdt = box(b"tfdt", struct.pack(">II", 0, 0))
    traf = box(b"traf", tfhd, tfdt, *(box(b"trun", run) for run in runs))
    return box(b"moof", box(b"mfhd", struct.pack(">II", 0, 1)), traf) + box(b"mdat", media)


def moof_bytes(runs: list[bytes]) -> int:
    return len(fragment_with(runs)) - 108


def test_one_size_may_stand_for_all_samples() -> None:
    at = moof_bytes([bytes(12)]) + 8
    run = struct.pack(">IIi", 0x000001, 3, at)
    (fragment,) = FragmentReader().take(fragment_with([run], bytes(range(100))))
    assert [bytes(sample) for sample in fragment.samples] == [bytes(range(n, n + 10)) for n in (0, 10, 20)]


def test_a_large_count_asks_for_no_memory() -> None:
    run = struct.pack(">IIi", 0x000001, 0xFFFF_FFFF, 200)
    with pytest.raises(Mp4Error, match="no sizes"):
        list(FragmentReader().take(fragment_with([run], default_bytes=0)))


def test_pictures_that_all_lie_over_the_same_bytes_are_refused() -> None:
    at = moof_bytes([bytes(12)] * 9) + 8
    run = struct.pack(">IIi", 0x000001, 5, at)
    with pytest.raises(Mp4Error, match="outside of its mdat"):
        list(FragmentReader().take(fragment_with([run] * 9)))


@pytest.mark.parametrize("moved", [-1, 51])
def test_pictures_outside_of_the_mdat_are_refused(moved: int) -> None:
    at = moof_bytes([bytes(12)]) + 8
    run = struct.pack(">IIi", 0x000001, 5, at + moved)
    with pytest.raises(Mp4Error, match="outside of its mdat"):
        list(FragmentReader().take(fragment_with([run])))


def test_offsets_from_elsewhere_than_the_moof_are_refused() -> None:
    with pytest.raises(Mp4Error, match="from elsewhere"):
        list(FragmentReader().take(fragment_with([struct.pack(">IIi", 1, 1, 200)], flags=0x000018)))


# -- whose key --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "now", "known", "expected"),
    [
        ("init", BENCH_IDENTITY, (BENCH_IDENTITY,), Code.VIDEO_SIGNED),
        # Opened by the run of another key: that the journal named this one earlier is no help.
        ("init", OTHER, (BENCH_IDENTITY, OTHER), Code.VIDEO_KEY),
        # Found by a later start, which has another key.
        ("recovered", OTHER, (BENCH_IDENTITY, OTHER), Code.VIDEO_SIGNED),
        ("recovered", OTHER, (OTHER,), Code.VIDEO_KEY),
    ],
)
def test_the_key_is_the_one_of_its_time(
    filmed: Path, first: str, now: BenchIdentity, known: tuple[BenchIdentity, ...], expected: Code
) -> None:
    (recording,) = (filmed / "recordings").iterdir()
    video = VideoCheck(None, lambda _: None)

    def take(job: MediaJob) -> None:
        video.take(job, recording, now.signer.certificate, [identity.signer.certificate for identity in known])

    with video:
        if first == "init":
            take(MediaJob("x", "init.mp4", "init", 1, ""))
        for path in segments(filmed):
            size = path.stat().st_size
            checkpoint = Checkpoint(1, 1, size, "", 0, 0, 0, 0)
            take(MediaJob("x", path.name, "recovered" if first == "recovered" else "whole", size, "", [checkpoint]))
    assert [finding.code for finding in video_findings(video.seen, [], ())] == [expected]


def test_what_goes_wrong_in_the_thread_is_raised_to_who_waits(filmed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("agent.verify.video.split_sample", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        check(filmed)
