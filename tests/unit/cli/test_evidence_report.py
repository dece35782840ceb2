"""The report of `bodycam verify` as a lawyer reads it, at the widths and in the places where it is read."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from rich.console import Console

from agent.cli.evidence_report import MAX_ALIKE, print_report, print_words
from agent.clock import SimulatedClock
from agent.verify.finding import TO_THE_END, Code, Finding, Severity
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.support.evidence_key import EVIDENCE
from tests.support.identity import BENCH_IDENTITY, make_identity
from tests.support.packages import offloaded, renew_sums
from tests.support.stamping import stamp
from tests.support.time_authority import NOW, time_authority
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import edit_lines, flip, index_of

ROOT = BENCH_IDENTITY.root
START = NOW.replace(microsecond=0)


@dataclass(frozen=True)
class Scene:
    """Evidence and what an examiner brings."""

    path: Path
    roots: tuple[x509.Certificate, ...] | None = (ROOT,)
    tsa_roots: tuple[x509.Certificate, ...] | None = None
    with_key: bool = False

    def report(self) -> Report:
        return verify_path(
            self.path,
            roots=self.roots,
            tsa_roots=self.tsa_roots,
            identities=EVIDENCE.identities if self.with_key else None,
            video=True,
        )


def printed(report: Report, *, width: int = 80, everything: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    print_words(console, print_report(console, report, everything=everything))
    return out.getvalue()


def conclusion(text: str) -> str:
    """The paragraph in front of the words, as one line."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return next(said for said in reversed(paragraphs) if said and not said.startswith("Words"))


def build(folder: Path, **options: object) -> VaultBuilder:
    clock = SimulatedClock(utc_ns=int(START.timestamp()) * 10**9)
    return VaultBuilder(folder / "vault", clock=clock, **options)  # type: ignore[arg-type]


def clean(folder: Path) -> VaultBuilder:
    vault = build(folder)
    vault.record(6, sound=True, meanwhile=vault.mark)
    vault.record(3)
    vault.shut_down()
    return vault


def package(folder: Path) -> Path:
    vault = build(folder)
    recording_id = vault.record(6, sound=True)
    vault.shut_down()
    return offloaded(vault, folder)[recording_id]


def vault_scene(folder: Path) -> Scene:
    return Scene(clean(folder).root)


def no_root(folder: Path) -> Scene:
    return Scene(clean(folder).root, roots=None)


def other_root(folder: Path) -> Scene:
    return Scene(clean(folder).root, roots=(make_identity().root,))


def good_package(folder: Path) -> Scene:
    return Scene(package(folder))


def timestamps(folder: Path, tsa_roots: tuple[x509.Certificate, ...] | None, *, after: bool = True) -> Scene:
    vault = build(folder)
    stamp(vault)
    vault.clock.advance_ns(3600 * 10**9)
    vault.record(3)
    if after:
        vault.clock.advance_ns(3600 * 10**9)
        stamp(vault)
    vault.shut_down()
    return Scene(vault.root, tsa_roots=tsa_roots)


def timestamped(folder: Path) -> Scene:
    return timestamps(folder, (time_authority().root,))


def timestamps_unchecked(folder: Path) -> Scene:
    return timestamps(folder, None)


def timestamp_on_one_side(folder: Path) -> Scene:
    return timestamps(folder, (time_authority().root,), after=False)


def recovered(folder: Path) -> Scene:
    vault = build(folder)
    running = vault.begin()
    vault.feed(running, 6)
    last = max(vault.layout.recording(running.recording_id).glob("0*.m4s"))
    last.write_bytes(last.read_bytes() + last.read_bytes()[:700])
    vault.restart()
    vault.shut_down()
    return Scene(vault.root)


def gap(folder: Path) -> Scene:
    vault = build(folder)
    running = vault.begin(max_bytes=60_000, pad_bytes=20_000)
    vault.feed(running, 1)
    vault.push(running, 6)
    vault.work()
    vault.stop(running)
    vault.shut_down()
    return Scene(vault.root)


def encrypted(folder: Path) -> Scene:
    vault = build(folder, recipients=(EVIDENCE.recipient,), wearer="Jane Doe")
    vault.record(4)
    vault.shut_down()
    return Scene(vault.root)


def opened(folder: Path) -> Scene:
    return replace(encrypted(folder), with_key=True)


def flipped(folder: Path) -> Scene:
    where = package(folder)
    flip(where / "000002.m4s", 3000)
    return Scene(where)


def cut_short(folder: Path) -> Scene:
    where = package(folder)
    path = where / "000002.m4s"
    path.write_bytes(path.read_bytes()[:-500])
    renew_sums(where)
    return Scene(where)


def segment_gone(folder: Path) -> Scene:
    where = package(folder)
    (where / "000002.m4s").unlink()
    return Scene(where)


def line_gone(folder: Path) -> Scene:
    where = package(folder)
    path = where / "journal" / "000001.journal"
    at = index_of(path, "checkpoint", 2)
    edit_lines(path, lambda lines: lines[:at] + lines[at + 1 :])
    return Scene(where)


def line_edited(folder: Path) -> Scene:
    where = package(folder)
    path = where / "journal" / "000001.journal"
    at = index_of(path, "checkpoint", 2)
    edit_lines(path, lambda ls: [*ls[:at], ls[at].replace(b'"frames":10', b'"frames":11'), *ls[at + 1 :]])
    return Scene(where)


def end_gone(folder: Path) -> Scene:
    where = package(folder)
    edit_lines(where / "journal" / "000001.journal", lambda lines: lines[:-3])
    renew_sums(where)
    return Scene(where)


def no_sums(folder: Path) -> Scene:
    where = package(folder)
    (where / "SHA256SUMS").unlink()
    return Scene(where)


def page_changed(folder: Path) -> Scene:
    where = package(folder)
    (where / "README.txt").write_text("Read something else.")
    return Scene(where)


def empty(folder: Path) -> Scene:
    vault = build(folder)
    vault.shut_down()
    return Scene(vault.root)


def nothing_yet(folder: Path) -> Scene:
    vault = build(folder)
    vault.journal.close()
    for path in vault.layout.journal.iterdir():
        path.unlink()
    return Scene(vault.root)


def running(folder: Path) -> Scene:
    vault = build(folder)
    vault.record(3)
    vault.feed(vault.begin(), 3)
    return Scene(vault.root)


def rekeyed(folder: Path) -> Scene:
    from agent.trust.certificates import fingerprint_hex, pem
    from agent.vault.layout import kept_chain_name
    from tests.support.vault_builder import MoodySigner

    vault = build(folder)
    vault.record(2)
    vault.shut_down()
    old, vault.identity = vault.identity, make_identity()
    vault.identity.install(vault.layout)
    kept = vault.layout.device / kept_chain_name(fingerprint_hex(old.signer.chain[0]))
    kept.write_bytes(pem(old.signer.chain))
    vault.signer = MoodySigner(vault.identity)
    vault.restart()
    vault.record(2)
    vault.shut_down()
    return Scene(vault.root, roots=(old.root, vault.identity.root))


GOOD = "The signatures lead to the root certificate you gave."
CLAIM = "When it happened is the camera's own claim: see TIME."
SCENES: dict[Callable[[Path], Scene], tuple[str, ...]] = {
    vault_scene: (f"Complete, unchanged and signed. {GOOD} {CLAIM}",),
    no_root: ("Complete, unchanged and signed. Whose camera this is stays open until", "--root ROOT.pem", CLAIM),
    other_root: (
        "None of the 2 recordings verifies: each was signed under a certificate that is not shown to lead to the root "
        "certificate that you gave.",
    ),
    good_package: (f"Complete, unchanged and signed. {GOOD} {CLAIM}",),
    timestamped: (GOOD, "bounded by the time authority that you trust."),
    timestamps_unchecked: (GOOD, CLAIM),
    timestamp_on_one_side: ("signed, but for what the warnings say.", "bounded on one side, or not without doubt"),
    recovered: ("Unchanged and signed. The recording is not complete, as the camera says itself (see COMPLETENESS).",),
    gap: ("Unchanged and signed. The recording is not complete, as the camera says itself (see COMPLETENESS).",),
    encrypted: ("Complete, unchanged and signed. What is inside the encrypted video was not looked at.",),
    opened: (f"Complete, unchanged and signed. {GOOD}",),
    flipped: ("This recording does not verify: it is not what the camera signed.",),
    cut_short: ("This recording does not verify: it is not what the camera signed and is not complete.",),
    segment_gone: ("is not complete.",),
    line_gone: ("This recording does not verify: it is not what the camera signed and is not complete.",),
    line_edited: ("This recording does not verify: it is not what the camera signed",),
    end_gone: ("This recording does not verify: it is not complete.",),
    no_sums: ("This recording does not verify: it lies in a package that is not whole.",),
    page_changed: ("This recording does not verify: it lies in a package that was changed.",),
    empty: (f"There is no recording in it. Its journal (3 records) is unchanged and signed. {GOOD}",),
    nothing_yet: ("There is nothing to verify here yet.",),
    running: ("Unchanged and signed, but for what the warnings say. Of 2 recordings 1 has no end yet",),
    rekeyed: ("The signatures lead to the root certificate you gave, but a person must judge the origin: see ORIGIN.",),
}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_what_it_concludes_and_how_it_looks(scene: Callable[[Path], Scene], tmp_path: Path) -> None:
    report = scene(tmp_path).report()
    text = printed(report)
    for said in SCENES[scene]:
        assert said in conclusion(text)
    for width in (60, 80, 120):
        lines = printed(report, width=width).splitlines()
        too_long = [line for line in lines if len(line) > width and not line.startswith("  Folder")]
        assert all(" " not in line.strip() or "SHA-256" in line for line in too_long), too_long
        assert [line for line in lines if line != line.rstrip()] == []
    everything = printed(report, everything=True)
    for finding in report.findings:
        # What a program calls a value is not for a person: tuples, reprs, raw ticks.
        assert not re.search(r"\(\d+, |\w+\(\w+=|'[0-9a-f]{64}'|90k|ordinal", finding.sentence), finding.sentence
        assert finding.sentence[-1] in ".)", finding.sentence
        assert f"{finding.severity.value} {finding.code.value}  " in everything
    assert "\x1b" not in text
    for recording in report.recordings:
        assert all(verdict.reason for verdict in recording.aspects)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_line_that_was_taken_out_is_told_once_and_what_follows_is_counted(tmp_path: Path) -> None:
    report = line_gone(tmp_path).report()
    text, everything = flat(printed(report)), flat(printed(report, everything=True))
    assert text.count("fail ") == 1
    assert "fail JOURNAL_SEQ Record 8 is missing from the journal: record 9 follows on record 7." in text
    follow = "5 further findings follow from it (FRAGMENT_COUNT, MEDIA_TIME, PACKAGE_SUM and FRAGMENT_DISAGREES)"
    assert f"{follow} and are not listed; --all lists them." in text
    assert everything.count("fail ") == 6
    assert "further finding" not in everything


def test_the_place_of_a_change_is_a_time_and_bytes(tmp_path: Path) -> None:
    text = flat(printed(flipped(tmp_path).report()))
    assert "000002.m4s was changed between bytes 0 and" in text
    assert "that is at 00:02.000 to 00:03.000 of the recording (fragment 3, signed in record" in text
    assert "From there to the end of that file, at 00:04.000, nothing of it is proved any more." in text


def test_a_file_that_was_cut_short_is_not_complete(tmp_path: Path) -> None:
    report = cut_short(tmp_path).report()
    standings = {verdict.aspect.value: verdict.standing.value for verdict in report.recordings[0].aspects}
    assert standings == {"integrity": "fails", "origin": "holds", "time": "open", "completeness": "fails"}
    assert "is lost from 00:03.000 to the end of that file, at 00:04.000" in flat(printed(report))


def test_a_package_is_not_said_to_be_still_recorded(tmp_path: Path) -> None:
    text = flat(printed(end_gone(tmp_path).report()))
    assert "The record that closes the recording is not in this package" in text
    assert "still records" not in text
    assert "the camera still records it, or was cut off" in flat(printed(running(tmp_path / "running").report()))


def test_a_key_that_nobody_introduced_limits_what_it_signed_and_says_whom_to_ask(tmp_path: Path) -> None:
    report = rekeyed(tmp_path).report()
    origins = [r.to_json()["verdicts"]["origin"] for r in report.recordings]
    assert [origin["verdict"] for origin in origins] == ["holds", "limited"]
    assert (
        "Ask the department whether this camera was given another key (re-keyed), when and why" in origins[1]["reason"]
    )
    assert report.ok


def test_another_name_limits_all_that_follows(tmp_path: Path) -> None:
    vault = build(tmp_path)
    vault.record(2)
    vault.shut_down()
    vault.device_id = "CAM-OTHER"
    vault.restart()
    vault.record(2)
    vault.shut_down()
    report = Scene(vault.root).report()
    origins = [r.to_json()["verdicts"]["origin"]["verdict"] for r in report.recordings]
    assert origins == ["holds", "limited"]
    named = [finding for finding in report.findings if finding.code in (Code.CERT_CHANGED, Code.CERT_NAME)]
    assert len(named) == 2
    assert all(finding.until == TO_THE_END and "Ask the department" in finding.sentence for finding in named)


def test_a_clock_that_nobody_set_is_told_once_for_a_vault(tmp_path: Path) -> None:
    vault = build(tmp_path)
    vault.clock.source = "rtc"
    for _ in range(MAX_ALIKE + 2):
        vault.record(2)
    vault.shut_down()
    report = Scene(vault.root).report()
    text = flat(printed(report))
    assert text.count("TIME_UNSYNCHRONISED") == 1
    assert "For all 12 recordings: No time server had set the camera's clock when it began" in text
    assert sum(finding.code is Code.TIME_UNSYNCHRONISED for finding in report.findings) == 12
    # Those that are as sound as ten before them are told in short, and each is named.
    assert text.count("VERIFIED ") == 12
    assert text.count("for the reasons above") == 2
    assert "for the reasons above" not in flat(printed(report, everything=True))


def with_findings(report: Report, findings: list[Finding]) -> Report:
    return replace(report, findings=tuple(findings))


def test_ten_of_a_kind_and_a_number(tmp_path: Path) -> None:
    report = vault_scene(tmp_path).report()
    bad = [Finding(Code.SIGNATURE_BAD, Severity.FAIL, f"line {n}", f"Fault {n}.", at=n) for n in range(25)]
    follower = Finding(Code.MEDIA_TIME, Severity.FAIL, "x", "It follows.", follows=20)
    text = flat(printed(with_findings(report, [*bad, follower])))
    assert [f"Fault {n}." in text for n in range(25)] == [n < MAX_ALIKE for n in range(25)]
    assert "fail SIGNATURE_BAD And 15 more of this kind. 1 further finding follows from them (MEDIA_TIME)" in text
    everything = flat(printed(with_findings(report, bad), everything=True))
    assert all(f"Fault {n}." in everything for n in range(25))


def test_nothing_in_a_name_moves_the_cursor(tmp_path: Path) -> None:
    report = vault_scene(tmp_path).report()
    evil = Finding(Code.FILE_UNKNOWN, Severity.FAIL, "x", "\x1b[2Jname\r\x9b is here.", recording_id="\x1b[1A")
    text = printed(with_findings(replace(report, device_id="\x1b]0;x\x07"), [evil]))
    assert not set(text) & {"\x1b", "\r", "\x9b", "\x07"}
    assert "?[2Jname?? is here." in text


def test_words_are_explained_only_when_they_were_said(tmp_path: Path) -> None:
    text = printed(vault_scene(tmp_path).report())
    assert "\nWords\n" in text
    assert re.search(r"^  fragment +about one second of video", text, re.MULTILINE)
    assert not re.search(r"^  checkpoint ", text, re.MULTILINE)
    assert re.search(r"^  checkpoint ", printed(end_gone(tmp_path / "end").report()), re.MULTILINE)


def test_many_changed_records_in_a_row_are_one_sentence(tmp_path: Path) -> None:
    where = package(tmp_path)
    path = where / "journal" / "000001.journal"
    first, last = index_of(path, "trigger"), index_of(path, "checkpoint", 5)
    edit_lines(
        path,
        lambda lines: [
            line.replace(b'"clock_source":"ntp"', b'"clock_source":"rtc"') if first <= number <= last else line
            for number, line in enumerate(lines)
        ],
    )
    report = Scene(where).report()
    text, everything = flat(printed(report)), flat(printed(report, everything=True))
    where_to = "(trigger … checkpoint, 00:00.000 to 00:06.000 of the recording)"
    assert f"Records {first + 1} to {last + 1} {where_to} were changed" in text
    assert text.count("fail SIGNATURE_BAD") == 1
    assert everything.count("fail SIGNATURE_BAD") == last - first + 1
    assert "by what is here of the journal, which is not as it was signed" in text


def test_an_estimate_is_said_plainly_and_certificates_name_their_records(tmp_path: Path) -> None:
    text = flat(printed(timestamped(tmp_path).report()))
    assert "an estimate between the two, no proof" in text
    assert "fitted" not in text
    assert re.search(r"Signed by certificate .*, records 1 to \d+", text)
