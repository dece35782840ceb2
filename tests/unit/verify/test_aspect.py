"""Four verdicts, each resting on its own findings, and none believed when the log is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.clock import NS_PER_S, SimulatedClock
from agent.verify.aspect import Aspect, Standing, aspect_of, judge
from agent.verify.finding import Code, Findings, Severity
from agent.verify.interval import Anchor, Interval
from agent.verify.kit_files import verify_script
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.support.identity import BENCH_IDENTITY, make_identity
from tests.support.stamping import stamp
from tests.support.time_authority import NOW, time_authority
from tests.support.vault_builder import VaultBuilder
from tests.unit.verify.tampering import check, edit_lines, flip

ALL_GOOD = {"integrity": "holds", "origin": "holds", "time": "open", "completeness": "holds"}


def verdicts(report: Report, recording_id: str) -> dict[str, str]:
    (recording,) = (found for found in report.recordings if found.recording_id == recording_id)
    assert [verdict.aspect for verdict in recording.aspects] == list(Aspect)
    assert all(verdict.reason.endswith((".", ")")) for verdict in recording.aspects)
    return {verdict.aspect.value: verdict.standing.value for verdict in recording.aspects}


@pytest.fixture
def vault(tmp_path: Path) -> VaultBuilder:
    return VaultBuilder(tmp_path / "vault")


def test_a_good_recording(vault: VaultBuilder) -> None:
    recording_id = vault.record(3)
    report = check(vault)
    assert verdicts(report, recording_id) == ALL_GOOD
    said = report.to_json()["recordings"][0]["verdicts"]
    assert said["completeness"]["reason"].startswith("All 3 fragments")
    assert "no timestamp" in said["time"]["reason"]


def test_changed_video_touches_one_recording_and_one_aspect(vault: VaultBuilder) -> None:
    hurt, sound = vault.record(), vault.record()
    flip(vault.layout.recording(hurt) / "000001.m4s", 5000)
    report = check(vault)
    assert verdicts(report, hurt) == ALL_GOOD | {"integrity": "fails"}
    assert verdicts(report, sound) == ALL_GOOD
    (reason,) = (v.reason for v in report.recordings[0].aspects if v.aspect is Aspect.INTEGRITY)
    assert reason.startswith("000001.m4s was changed between bytes 0 and")
    assert reason.endswith("more below)")


def test_a_missing_segment_is_missing_and_not_changed(vault: VaultBuilder) -> None:
    recording_id = vault.record()
    (vault.layout.recording(recording_id) / "000002.m4s").unlink()
    assert verdicts(check(vault), recording_id) == ALL_GOOD | {"completeness": "fails"}


def test_a_changed_log_leaves_the_other_questions_open(vault: VaultBuilder) -> None:
    recording_id = vault.record()
    journal = vault.layout.journal / "000001.journal"
    edit_lines(journal, lambda lines: [line.replace(b'"ntp"', b'"rtc"') for line in lines])
    assert verdicts(check(vault), recording_id) == {
        "integrity": "fails", "origin": "open", "time": "open", "completeness": "open",
    }  # fmt: skip


def test_without_a_root_or_under_another_one(vault: VaultBuilder, tmp_path: Path) -> None:
    recording_id = vault.record()
    assert verdicts(verify_path(vault.root), recording_id)["origin"] == "open"
    other = VaultBuilder(tmp_path / "other", identity=make_identity())
    assert verdicts(verify_path(vault.root, roots=[other.identity.root]), recording_id) == ALL_GOOD | {
        "origin": "fails"
    }


def test_what_the_camera_says_is_missing_limits_completeness(vault: VaultBuilder) -> None:
    running = vault.begin(max_bytes=60_000, pad_bytes=20_000)
    vault.feed(running, 1)
    vault.push(running, 6)
    vault.work()
    gap = vault.stop(running)
    cut = vault.begin()
    vault.feed(cut, 3)
    vault.restart()
    report = check(vault)
    assert verdicts(report, gap) == verdicts(report, cut.recording_id) == ALL_GOOD | {"completeness": "limited"}


def test_a_clock_that_was_wrong_limits_time(vault: VaultBuilder) -> None:
    vault.clock.step_wall_ns(-20 * 365 * 86_400 * 10**9)
    recording_id = vault.record()
    assert verdicts(check(vault), recording_id) == ALL_GOOD | {"time": "limited"}


def test_timestamps_answer_when(tmp_path: Path) -> None:
    """Between two that are believed it holds; believed on one side it is limited; unchecked it stays open."""
    vault = VaultBuilder(tmp_path / "vault", clock=SimulatedClock(utc_ns=int(NOW.timestamp()) * NS_PER_S))
    unbounded = vault.record(1)
    stamp(vault)
    between = vault.record(1)
    stamp(vault)
    after = vault.record(1)
    stamp(vault, time_authority("Other TSA"))
    vault.shut_down()
    known = (time_authority().root,)
    for trusted, expected in (
        (known, {unbounded: "limited", between: "holds", after: "limited"}),
        ((time_authority("Nobody").root,), {unbounded: "open", between: "open", after: "open"}),
        (None, {unbounded: "open", between: "open", after: "open"}),
    ):
        report = verify_path(vault.root, roots=[BENCH_IDENTITY.root], tsa_roots=trusted)
        for recording_id, standing in expected.items():
            assert verdicts(report, recording_id) == ALL_GOOD | {"time": standing}, (trusted, recording_id)
    report = verify_path(vault.root, roots=[BENCH_IDENTITY.root], tsa_roots=known)
    (time,) = (v for v in report.recordings[1].aspects if v.aspect is Aspect.TIME)
    assert re.fullmatch(
        r"Timestamps prove that its records were written not before .+ and existed by .+; its first [0-9.]+ s were "
        r"captured before the button was pressed \(pre-event\), by the camera's own account\.",
        time.reason,
    )


def test_bounds_without_a_finding_are_weighed() -> None:
    """The interval alone: both sides hold, one side is limited, none is the camera's claim."""
    begun = Anchor(1, 1, NOW, "CN=TSA", 1, 2, "boot", 1, 2)
    for before, after, checked, expected in (
        (begun, begun, True, Standing.HOLDS),
        (begun, None, True, Standing.LIMITED),
        (None, begun, True, Standing.LIMITED),
        (begun, begun, False, Standing.OPEN),
        (None, None, True, Standing.OPEN),
    ):
        time = Interval(before, after, checked, None, "ntp", 10)
        judged = judge((), root_given=True, signed=True, clock="ntp", holds_completely="", time=time)
        (found,) = (verdict for verdict in judged if verdict.aspect is Aspect.TIME)
        assert found.standing is expected
        assert ("not before" in found.reason) == (before is not None)
        assert ("existed by" in found.reason) == (after is not None)
        assert ("--tsa-root" in found.reason) == (expected is Standing.OPEN)
        assert "captured before" not in found.reason


def test_nothing_signed_is_no_integrity() -> None:
    (integrity, *_) = judge((), root_given=True, signed=False, clock=None, holds_completely="")
    assert integrity.standing is Standing.FAILS


@pytest.mark.parametrize("code", Code)
def test_a_failure_of_any_kind_fails_its_aspect(code: Code) -> None:
    findings = Findings()
    findings.fail(code, "x", "It is wrong.")
    judged = judge(findings.all(), root_given=True, signed=True, clock="ntp", holds_completely="All is here.")
    # Without its certificate no signature can be checked.
    both = [Aspect.INTEGRITY, Aspect.ORIGIN] if code is Code.CERT_UNKNOWN else [aspect_of(code)]
    assert [v.aspect for v in judged if v.standing is Standing.FAILS] == both


@pytest.mark.parametrize("code", [Code.PACKAGE_SUM, Code.FILE_UNKNOWN, Code.PACKAGE_DEVICE])
def test_what_is_no_evidence_limits_and_refutes_nothing(code: Code) -> None:
    findings = Findings()
    findings.fail(code, "README.txt", "README.txt was changed.", around=True)
    (integrity, *_) = judged = judge(findings.all(), root_given=True, signed=True, clock="ntp", holds_completely="All.")
    assert integrity.standing is Standing.LIMITED
    assert integrity.reason == (
        "The video and the log are what the camera signed; the package around them was changed: README.txt was changed."
    )
    assert not any(v.standing is Standing.FAILS for v in judged)
    # With one finding on evidence beside it, that one is the reason.
    findings.fail(Code.CHECKPOINT_HASH, "x/000001.m4s", "000001.m4s was changed.")
    (integrity, *_) = judge(findings.all(), root_given=True, signed=True, clock="ntp", holds_completely="All.")
    assert integrity.standing is Standing.FAILS
    assert integrity.reason == "000001.m4s was changed. (1 more below)"
    (integrity, *_) = judge(findings.all()[:1], root_given=True, signed=False, clock="ntp", holds_completely="All.")
    assert integrity.standing is Standing.FAILS


@pytest.mark.parametrize("code", Code)
def test_a_warning_of_any_kind_limits_its_aspect(code: Code) -> None:
    findings = Findings()
    findings.add(code, Severity.WARN, "x", "Look at it.")
    judged = judge(findings.all(), root_given=True, signed=True, clock="ntp", holds_completely="All is here.")
    assert [v.aspect for v in judged if v.standing is Standing.LIMITED] == [aspect_of(code)]


def test_verify_sh_asks_the_same_questions_of_the_same_findings() -> None:
    text = verify_script().decode().replace("\\\n", "")
    (listed,) = re.findall(r"^ +(JOURNAL_MISSING \|[^)]*)\) aspect=completeness", text, re.MULTILINE)
    in_script = set(re.findall(r"[A-Z_]+", listed))
    assert in_script == {code.value for code in Code if aspect_of(code) is Aspect.COMPLETENESS}
    assert "TIME*) aspect=time" in text
    assert "CERT_* | ROOT_*) aspect=origin" in text
