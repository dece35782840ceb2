"""One tampering is one cause with what follows from it; a second one is never taken for a consequence."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.verify.finding import Code, Finding, Severity
from agent.verify.folding import causes
from agent.verify.report import Report
from tests.support.identity import make_identity
from tests.support.packages import offloaded, renew_sums
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, edit_lines, first, flip, forge, index_of, unsigned


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault")


def journal(vault: VaultBuilder) -> Path:
    return vault.layout.journal / "000001.journal"


def standing(report: Report) -> list[Code]:
    """Codes of failures that stand for themselves."""
    roots = causes(report.findings)
    return [
        finding.code
        for finding, root in zip(report.findings, roots, strict=True)
        if root is None and finding.severity is Severity.FAIL
    ]


def folded(report: Report) -> dict[Code, Code]:
    """Code of each finding that follows from another, and that one's."""
    roots = causes(report.findings)
    return {
        finding.code: report.findings[root].code
        for finding, root in zip(report.findings, roots, strict=True)
        if root is not None
    }


def without(path: Path, type_: str, nth: int = 0) -> None:
    at = index_of(path, type_, nth)
    edit_lines(path, lambda lines: lines[:at] + lines[at + 1 :])


def replaced(path: Path, type_: str, nth: int, old: bytes, new: bytes) -> None:
    at = index_of(path, type_, nth)

    def edit(lines: list[bytes]) -> list[bytes]:
        assert old in lines[at]
        lines[at] = lines[at].replace(old, new)
        return lines

    edit_lines(path, edit)


@pytest.mark.parametrize("nth", range(6))
def test_one_checkpoint_taken_out_is_one_cause(vault: VaultBuilder, nth: int) -> None:
    vault.record(6, sound=True)
    without(journal(vault), "checkpoint", nth)
    report = check(vault)
    assert standing(report) == [Code.JOURNAL_SEQ]
    assert set(folded(report).values()) == {Code.JOURNAL_SEQ}
    assert Code.FRAGMENT_COUNT in folded(report)


@pytest.mark.parametrize(
    ("type_", "beside"),
    # That nothing names init.mp4 any more might as well be another tampering, and is told.
    [("trigger", set()), ("segment", set()), ("stop", set()), ("recording-open", {Code.FILE_UNKNOWN})],
)
def test_one_record_taken_out_is_one_cause(vault: VaultBuilder, type_: str, beside: set[Code]) -> None:
    vault.record(6)
    without(journal(vault), type_)
    assert set(standing(check(vault))) == {Code.JOURNAL_SEQ} | beside


@pytest.mark.parametrize("nth", range(6))
def test_one_record_changed_is_one_cause(vault: VaultBuilder, nth: int) -> None:
    vault.record(6)
    replaced(journal(vault), "checkpoint", nth, b'"frames":10', b'"frames":11')
    report = check(vault)
    assert standing(report) == [Code.SIGNATURE_BAD]
    assert set(folded(report)) == {
        Code.JOURNAL_CHAIN_BROKEN, Code.SIGNATURE_UNCOVERED, Code.FRAGMENT_COUNT, Code.FRAGMENT_DISAGREES,
    }  # fmt: skip


@pytest.mark.parametrize(("nth", "place"), [(2, 0.2), (3, 0.8)], ids=["first of its segment", "last of its segment"])
def test_a_changed_hash_in_a_record_is_told_from_a_changed_file(vault: VaultBuilder, nth: int, place: float) -> None:
    recording_id = vault.record(6)
    path = journal(vault)
    at = index_of(path, "checkpoint", nth)

    def edit(lines: list[bytes]) -> list[bytes]:
        head, mark, rest = lines[at].partition(b'"sha256":"')
        lines[at] = head + mark + (b"1" if rest[:1] == b"0" else b"0") + rest[1:]
        return lines

    edit_lines(path, edit)
    report = check(vault)
    assert standing(report) == [Code.SIGNATURE_BAD]
    (finding,) = (found for found in report.findings if found.code is Code.CHECKPOINT_HASH)
    assert "that record was changed, and not the video" in finding.sentence
    # With the file changed at the same place, too, both stand.
    segment = vault.layout.recording(recording_id) / "000002.m4s"
    flip(segment, int(segment.stat().st_size * place))
    report = check(vault)
    assert {Code.SIGNATURE_BAD, Code.CHECKPOINT_HASH} <= set(standing(report))
    assert not any("and not the video" in found.sentence for found in report.findings)


def test_a_flipped_byte_is_one_cause(vault: VaultBuilder) -> None:
    flip(vault.layout.recording(vault.record(6)) / "000002.m4s", 20)
    report = check(vault)
    assert standing(report) == [Code.CHECKPOINT_HASH]
    assert set(folded(report).values()) == {Code.CHECKPOINT_HASH}
    assert Code.SEGMENT_HASH in folded(report)


SECOND: list[tuple[str, Callable[[VaultBuilder, str], object], Code]] = [
    ("flip in another segment", lambda v, r: flip(v.layout.recording(r) / "000003.m4s", 900), Code.CHECKPOINT_HASH),
    ("flip in the same segment", lambda v, r: flip(v.layout.recording(r) / "000002.m4s", 900), Code.CHECKPOINT_HASH),
    ("init.mp4", lambda v, r: flip(v.layout.recording(r) / "init.mp4", 90), Code.INIT_HASH),
    ("segment gone", lambda v, r: (v.layout.recording(r) / "000003.m4s").unlink(), Code.SEGMENT_MISSING),
    ("file added", lambda v, r: (v.layout.recording(r) / "000009.m4s").write_bytes(b"x"), Code.FILE_UNKNOWN),
    ("folder added", lambda v, _: (v.layout.recordings / "x").mkdir(), Code.FILE_UNKNOWN),
    ("another record out", lambda v, _: without(journal(v), "recording-close"), Code.JOURNAL_SEQ),
    (
        "another record changed",
        lambda v, _: replaced(journal(v), "checkpoint", 4, b'"frames":10', b'"frames":12'),
        Code.SIGNATURE_BAD,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("second", "code"), [(two, code) for _, two, code in SECOND], ids=[name for name, *_ in SECOND]
)
@pytest.mark.parametrize("one", ["out", "changed"])
def test_a_second_tampering_stands_beside_the_first(
    vault: VaultBuilder, second: Callable[[VaultBuilder, str], object], code: Code, one: str
) -> None:
    recording_id = vault.record(6)
    vault.record(2)
    if one == "out":
        without(journal(vault), "checkpoint", 2)
    else:
        replaced(journal(vault), "checkpoint", 2, b'"frames":10', b'"frames":11')
    before = standing(check(vault))
    second(vault, recording_id)
    after = standing(check(vault))
    assert len(after) > len(before)
    assert after.count(code) > before.count(code)


def test_a_contradiction_in_another_segment_is_no_consequence(vault: VaultBuilder) -> None:
    """Signed with the key, in a segment that the break does not touch."""
    vault.record(6)
    path = journal(vault)

    def edit(documents: list[dict[str, object]]) -> list[dict[str, object]]:
        first(documents, "segment", 2)["frames"] = 77
        return documents

    forge(path, edit, vault.identity.record_signer)
    without(path, "checkpoint", 0)
    report = check(vault)
    roots = causes(report.findings)
    counts = [
        (finding, root)
        for finding, root in zip(report.findings, roots, strict=True)
        if finding.code is Code.FRAGMENT_COUNT and "000003.m4s" in finding.sentence
    ]
    ((finding, root),) = counts
    assert root is None
    assert "says 77 frames; its checkpoints add up to 20 frames" in finding.sentence


def test_stripped_signatures_in_front_of_a_changed_record_are_told(vault: VaultBuilder) -> None:
    vault.record(6)
    path = journal(vault)
    replaced(path, "checkpoint", 2, b'"frames":10', b'"frames":11')
    at = index_of(path, "segment", 0)  # right in front of it
    edit_lines(path, lambda lines: [*lines[:at], unsigned(lines[at]), *lines[at + 1 :]])
    assert {Code.SIGNATURE_BAD, Code.SIGNATURE_UNCOVERED} <= set(standing(check(vault)))


def test_sums_of_a_package_say_again_what_its_journal_and_files_say(vault: VaultBuilder, tmp_path: Path) -> None:
    (package,) = [offloaded(vault, tmp_path)[recording_id] for recording_id in [vault.record(6)]]
    flip(package / "000002.m4s", 900)
    without(package / "journal" / "000001.journal", "checkpoint", 4)
    report = check(package)
    assert set(standing(report)) == {Code.CHECKPOINT_HASH, Code.JOURNAL_SEQ}
    assert sum(finding.code is Code.PACKAGE_SUM for finding in report.findings) == 2
    # A file that nothing else speaks of is told.
    (package / "README.txt").write_text("Changed.")
    assert Code.PACKAGE_SUM in standing(check(package))
    renew_sums(package)
    assert set(standing(check(package))) == {Code.CHECKPOINT_HASH, Code.JOURNAL_SEQ}


def test_a_foreign_key_in_the_middle_is_told_for_each_record(vault: VaultBuilder) -> None:
    vault.record(4)
    path = journal(vault)
    stranger = make_identity().record_signer
    at = index_of(path, "checkpoint", 1)

    def edit(lines: list[bytes]) -> list[bytes]:
        data = lines[at].partition(b"\t")[0]
        lines[at] = data + b"\t" + base64.b64encode(stranger.sign_record(data)) + b"\n"
        return lines

    edit_lines(path, edit)
    assert standing(check(vault)) == [Code.SIGNATURE_BAD]


def test_notes_and_findings_without_their_cause_stay() -> None:
    findings = [
        Finding(Code.GAP, Severity.NOTE, "x", "A gap.", follows=3),
        Finding(Code.MEDIA_TIME, Severity.FAIL, "x", "Its cause is not in the list.", follows=3),
        Finding(Code.SEGMENT_HASH, Severity.FAIL, "r/f", "Nor this one's.", follows="r/f"),
        Finding(Code.JOURNAL_CHAIN_BROKEN, Severity.FAIL, "j", "Broken.", at=5, until=5),
        Finding(Code.SIGNATURE_UNCOVERED, Severity.FAIL, "j", "A million.", at=0, until=1_000_000),
    ]
    assert causes(findings) == [None] * 5
    broken = Finding(Code.JOURNAL_SEQ, Severity.FAIL, "j", "There it is.", at=3, until=3)
    assert causes([*findings, broken]) == [None, 5, None, None, None, None]


def test_the_json_says_what_follows_from_what(vault: VaultBuilder) -> None:
    vault.record(6)
    without(journal(vault), "checkpoint", 2)
    found = check(vault).to_json()["findings"]
    (cause,) = [number for number, finding in enumerate(found) if finding["code"] == "JOURNAL_SEQ"]
    assert found[cause]["follows_from"] is None
    assert {finding["follows_from"] for finding in found if finding["code"] == "MEDIA_TIME"} == {cause}
