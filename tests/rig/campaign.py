"""Many power cuts, and a table of what they cost: `python -m tests.rig powercut`."""

from __future__ import annotations

import json
import shutil
import statistics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.rig.cut_outcome import Outcome
from tests.rig.cut_plan import Phase, plan
from tests.rig.layers import FOLDER
from tests.rig.power_cut import Bench, run
from tests.rig.qemu import RigError

ORDINARY = {"RECOVERED", "RUN_NOT_ENDED", "TIME_UNSYNCHRONISED", "UNSIGNED_BYTES", "UNSIGNED_MEDIA"}
"""Findings that a power cut leaves on an honest card, too (nobody sets the clock in the rig)."""
CASES = FOLDER / "powercut"
"""A folder for each case that did not go well, with card and vault; and outcomes.json."""


def campaign(
    bench: Bench,
    cuts: int,
    *,
    first_seed: int,
    lie: bool,
    phase: Phase | None,
    at_once: int,
    console: Console,
) -> bool:
    """Carry out so many cuts, `at_once` at a time, and print the table. True when all that was promised held.

    lie: nothing can be promised then. True when the bench saw promises broken, which shows that it can.
    """
    shutil.rmtree(CASES, ignore_errors=True)
    CASES.mkdir(parents=True)
    outcomes: list[Outcome] = []
    failed: list[str] = []

    def one(seed: int) -> Outcome | str:
        folder = CASES / str(seed)
        try:
            outcome = run(bench, plan(seed, lie=lie, phase=phase), folder)
        except RigError as error:
            # The rig's own failure is no result, and not to be taken for one.
            (folder / "rig-failed.txt").write_text(str(error))
            return f"seed {seed}: the rig failed; see {folder}/rig-failed.txt"
        if outcome.sound:
            shutil.rmtree(folder)
        return outcome

    with Progress(console=console, transient=True) as progress, ThreadPoolExecutor(at_once) as pool:
        task = progress.add_task("Power cuts", total=cuts)
        for done in as_completed([pool.submit(one, seed) for seed in range(first_seed, first_seed + cuts)]):
            result = done.result()
            if isinstance(result, str):
                failed.append(result)
                console.print(result, style="red")
            else:
                outcomes.append(result)
                console.print(line(result), style="" if result.sound or lie else "red")
            progress.advance(task)
            (CASES / "outcomes.json").write_text(json.dumps([asdict(each) for each in outcomes], indent=1))
    console.print(table(outcomes, lie=lie))
    if failed:
        console.print(f"{len(failed)} cases are missing from the table because the rig itself failed in them.")
    held = all(outcome.sound for outcome in outcomes)
    console.print(verdict(outcomes, lie=lie), style="" if held or lie else "bold red")
    return held is not lie and bool(outcomes) and not failed


def verdict(outcomes: Sequence[Outcome], *, lie: bool) -> str:
    """All of it in a sentence or two."""
    broken = sum(not outcome.sound for outcome in outcomes)
    cuts = f"{len(outcomes)} cut{'' if len(outcomes) == 1 else 's'}"
    if lie:
        unnamed = sum(not outcome.sound and not named(outcome) for outcome in outcomes)
        return f"{cuts}: the card broke its word in {broken}, and the device named that in all but {unnamed} of them."
    if broken:
        return f"{cuts}: {broken} BROKE A PROMISE; their disks and vaults are in {CASES}."
    return (
        f"{cuts}: nothing that the camera had called durable was lost, and all of it verifies and opens. What was lost "
        "had not been durable yet: up to a whole GOP, and what this emulated machine takes to encode and write one."
    )


def line(outcome: Outcome) -> str:
    """One case on one line."""
    what = outcome.plan
    torn = " torn" if what.rules.tear else ""
    moments = ", again ".join(str(moment) for moment in (what.cut, *what.again))
    words = [
        f"seed {what.seed} {what.phase} {moments} keep {what.rules.keep}{torn}",
        f"hit {outcome.hit or 'nothing'}{f' ({outcome.interrupted})' if outcome.interrupted else ''}",
        f"promised {outcome.promised} found {outcome.found}",
    ]
    if outcome.lost_ms is not None:
        words.append(f"lost {outcome.lost_ms:.0f} ms, {outcome.after_press_ms:.0f} of it after the press")
    if outcome.after_checkpoint_ms is not None:
        words.append(f"{outcome.after_checkpoint_ms:.0f} ms after the last checkpoint")
    words += [f"UNVERIFIABLE {' '.join(outcome.unverifiable)}"] if outcome.unverifiable else []
    words += [f"NOT OPENING {'; '.join(outcome.not_opening)}"] if outcome.not_opening else []
    words += [" ".join(sorted(set(outcome.findings)))] if outcome.findings else []
    return f"{' · '.join(words)} ({outcome.seconds:.0f} s)"


def named(outcome: Outcome) -> list[str]:
    """What on the device names a broken promise, beyond what every cut leaves. Empty: nothing does."""
    names = [name for name in dict.fromkeys(outcome.findings) if name not in ORDINARY]
    return names + ["unverifiable"] * bool(outcome.unverifiable) + ["not opening"] * bool(outcome.not_opening)


def table(outcomes: Sequence[Outcome], *, lie: bool = False) -> Table:
    """What the cuts cost, a row for each phase."""
    made = Table(title="Power cuts on a card that lies about flushes" if lie else "Power cuts")
    made.add_column("cut during")
    for heading in (
        "cuts", "video lost p50 ms", "max ms", "of it after the press p50 ms", "max ms", "after checkpoint max ms",
        "checkpointed lost", "unverifiable", "not opening",
    ):  # fmt: skip
        made.add_column(heading, justify="right")
    for phase in Phase:
        of_phase = [outcome for outcome in outcomes if outcome.plan.phase is phase]
        if not of_phase:
            continue
        lost = [outcome.lost_ms for outcome in of_phase if outcome.lost_ms is not None]
        pressed = [outcome.after_press_ms for outcome in of_phase if outcome.after_press_ms is not None]
        open_ms = [outcome.after_checkpoint_ms for outcome in of_phase if outcome.after_checkpoint_ms is not None]
        made.add_row(
            phase.value,
            str(len(of_phase)),
            *(_p50_and_max(lost)),
            *(_p50_and_max(pressed)),
            f"{max(open_ms):.0f}" if open_ms else "–",
            str(sum(outcome.promises_broken for outcome in of_phase)),
            str(sum(bool(outcome.unverifiable) for outcome in of_phase)),
            str(sum(bool(outcome.not_opening) for outcome in of_phase)),
        )
    hits = Counter(outcome.hit for outcome in outcomes if outcome.hit)
    made.caption = "What the first cut left torn: " + ", ".join(f"{hit} {count}x" for hit, count in hits.most_common())
    requests = Counter(outcome.interrupted for outcome in outcomes if outcome.interrupted)
    if requests:
        by_request = ", ".join(f"{request} {count}x" for request, count in requests.most_common())
        made.caption += f"\nOf the cuts at a request to the card it came instead of: {by_request}"
    if lie:
        broken = [outcome for outcome in outcomes if not outcome.sound]
        codes = Counter(name.split(":")[0] for outcome in broken for name in named(outcome))
        unseen = sum(not named(outcome) for outcome in broken)
        told = ", ".join(f"{code} {count}x" for code, count in codes.most_common(8)) or "nothing"
        made.caption += (
            f"\n{len(broken)} of {len(outcomes)} cuts broke a promise; named by: {told}; by nothing: {unseen}"
        )
    return made


def _p50_and_max(values: Sequence[float]) -> tuple[str, str]:
    if not values:
        return "–", "–"
    return f"{statistics.median(values):.0f}", f"{max(values):.0f}"
