"""A shift held against its bars, from what it left in its folder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from agent.trust.certificates import load_chain
from agent.verify.verify import verify_path
from tests.benchmarks.figure import Figure
from tests.soak.camera_life import ROOT_NAME, VAULT_NAME
from tests.soak.expected import by_code, unexplained
from tests.soak.read_back import Reader
from tests.soak.shift import LONG_LIFE, STORY_NAME
from tests.soak.steadiness import MB, allowed_mb_per_h, longest_life, memory_slope_mb_per_h, spread
from tests.soak.story import Story

NAME = "shift"
MOST_DESCRIPTORS_APART = 1
"""The journal's file is open or, after it failed, not."""


@dataclass
class Judgement:
    """figures: with bars and without. wrong: what missed them, in sentences. findings: of verify, by code."""

    figures: list[Figure]
    wrong: list[str]
    findings: dict[str, int]


def judge(folder: Path) -> Judgement:
    """All that a shift of these hours must be and was."""
    story = Story.read(folder / STORY_NAME)
    frames, wrong = _frames(folder, story)
    verified, unexplained_findings, findings = _verified(folder, story)
    figures = [*_events(story), *frames, *_steady(story), *verified]
    return Judgement(figures, wrong + unexplained_findings, findings)


def _figure(name: str, value: float, unit: str = "", bar: tuple[str, float] | None = None, note: str = "") -> Figure:
    return Figure(NAME, name, value, unit, bar, note)


_STEPS = {
    "-1": "a year back", "+1": "a year on", "an hour": "an hour", "0.7": "0.7 s", "slewed": "slewed", "lost": "lost",
}  # fmt: skip
"""What the story calls a step of the clock, and what the table does."""


def _events(story: Story) -> list[Figure]:
    clocks = {name: story.counted(f"clock: {name}") for name in _STEPS}
    return [
        _figure("simulated time", story.simulated_s / 3600, "h", (">=", story.hours),
                f"{story.cpu_s:.0f} s CPU, {story.wall_s:.0f} s by the wall"),
        _figure("triggers", story.counted("trigger: "), "", (">=", round(20 * story.hours))),
        _figure("faults", story.counted("fault: "), "", (">=", round(20 * story.hours)),
                ", ".join(f"{part} {story.counted(f'fault: {part}')}"
                          for part in ("camera", "sound", "card", "signer", "machine"))),
        _figure("clock steps", story.counted("clock: "), "", (">=", round(15 * story.hours)),
                ", ".join(f"{_STEPS[name]} {number}" for name, number in clocks.items())),
        _figure("ends of the process", story.counted("end: "), "", (">=", 4),
                ", ".join(f"{name.removeprefix('end: ')} {number}" for name, number in sorted(story.counts.items())
                          if name.startswith("end: "))),
    ]  # fmt: skip


def _frames(folder: Path, story: Story) -> tuple[list[Figure], list[str]]:
    before_s = time.monotonic()
    found = Reader(folder, story).read()
    return [
        _figure("recordings", found.recordings, "", (">=", 1),
                f"{found.media_s / 3600:.2f} h of media; {found.recovered} recovered, {found.empty} without a frame, "
                f"{found.short_pre_events} with a short pre-event that says why"),
        _figure("frames decoded, each where it belongs", found.frames, "", (">=", 1),
                f"{found.unread} of them by their time alone: the picture was spoiled; "
                f"{time.monotonic() - before_s:.0f} s"),
        _figure("frames lost", found.lost, "", ("==", 0),
                f"named by the journal: {found.journalled} in {found.gaps} gaps, {found.missed} never captured"),
        _figure("frames doubled or in a wrong place", found.doubled, "", ("==", 0)),
        _figure("frames behind a kill", found.cut_off, "", None,
                f"in recordings that say so; the longest {found.longest_cut_ms:.0f} ms"),
        _figure("recordings that begin late without a reason", found.late_starts, "", ("==", 0)),
        _figure("start gestures without a record", found.presses_lost, "", ("==", 0), f"of {found.presses}"),
        _figure("media time off capture time, worst", found.worst_time_us, "µs", ("<=", 20),
                "half a tick of 90 kHz is 6"),
        _figure("records that say something else than happened", len(found.wrong), "", ("==", 0)),
    ], found.wrong  # fmt: skip


def _steady(story: Story) -> list[Figure]:
    life = longest_life(story.vitals)
    hours = (life[-1].at_s - life[0].at_s) / 3600
    rss = [one.rss_bytes / MB for one in life]
    return [
        _figure("memory: slope in the longest life", memory_slope_mb_per_h(life), "MB/h",
                ("<=", allowed_mb_per_h(life)),
                f"{hours:.1f} h, {len(life)} samples, {rss[0]:.1f} to {rss[-1]:.1f} MB"),
        _figure("memory: slope from there to the end", *_slope_to_the_end(story)),
        _figure("memory: most", max(one.rss_bytes for one in story.vitals) / MB, "MB", None,
                f"at first {story.vitals[0].rss_bytes / MB:.1f}, at last {story.vitals[-1].rss_bytes / MB:.1f} MB"),
        _figure("file descriptors: most less least", spread([one.descriptors for one in story.vitals]), "",
                ("<=", MOST_DESCRIPTORS_APART), f"of {story.vitals[0].descriptors}, at rest, over all lives"),
        _figure("threads: most less least", spread([one.threads for one in story.vitals]), "", ("==", 0),
                f"of {story.vitals[0].threads}"),
        _figure("files left open at orderly ends",
                sum(life.open_files for life in story.lives if life.end == "stop"), "", ("==", 0)),
    ]  # fmt: skip


def _slope_to_the_end(story: Story) -> tuple[float, str, tuple[str, float], str]:
    later = [one for one in story.vitals if one.at_s >= story.simulated_s * LONG_LIFE[0]]
    return memory_slope_mb_per_h(later), "MB/h", ("<=", allowed_mb_per_h(later)), "over ends and starts in one process"


def _verified(folder: Path, story: Story) -> tuple[list[Figure], list[str], dict[str, int]]:
    before_s = time.monotonic()
    report = verify_path(folder / VAULT_NAME, roots=load_chain(folder / ROOT_NAME), video=True)
    took_s = time.monotonic() - before_s
    strange = unexplained(report.findings, story)
    verdicts = [one.verdict.value for one in report.recordings]
    return [
        _figure("verify: all of it in one go", took_s, "s", None,
                f"{report.records} records in {report.journal_files} files, {len(report.recordings)} recordings, "
                f"{sum(one.bytes for one in report.recordings) / MB:.1f} MB, signatures in the video read, too"),
        _figure("verify: recordings verified", verdicts.count("verified"), "", ("==", len(verdicts))),
        _figure("verify: failing findings", sum(one.severity.value == "fail" for one in report.findings), "",
                ("==", 0)),
        _figure("verify: findings that nothing in the shift explains", len(strange), "", ("==", 0)),
    ], strange, by_code(report.findings)  # fmt: skip
