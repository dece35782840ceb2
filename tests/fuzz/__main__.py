"""The long run behind `make fuzz`: every target, or one, for as long as there is time; and one input again.

Coverage-guided by atheris where it can be installed. Elsewhere the short run's own mutations go on, which are blind.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom

from tests.fuzz.artefacts import Artefacts
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS, target

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "fuzz"
HANG_S = 30
MAX_RSS_MB = 2048
_MAX_CRASHES = 5
_COVERAGE = re.compile(r"^#\d+\s+(\w+)\s+cov: (\d+)", re.MULTILINE)
_EXECUTED = re.compile(r"^stat::number_of_executed_units:\s+(\d+)", re.MULTILINE)


@dataclass(slots=True)
class Outcome:
    """What became of one target. coverage: places in the code reached by the seeds and corpus, and at the end."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    coverage: tuple[int, int] | None = None
    crashes: list[Path] = field(default_factory=list)

    def line(self) -> str:
        """For the table."""
        covered = "-" if self.coverage is None else f"{self.coverage[1]} (+{self.coverage[1] - self.coverage[0]})"
        rate = self.inputs / self.seconds if self.seconds else 0.0
        return f"{self.name:18}{self.inputs:>12,}{rate:>10,.0f}{covered:>16}{len(self.crashes):>9}"


HEADINGS = f"{'target':18}{'inputs':>12}{'a second':>10}{'coverage (new)':>16}{'crashes':>9}"


def main() -> int:
    """Returns 1 when a reader broke."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--target", choices=[found.name for found in TARGETS])
    parser.add_argument("--replay", type=Path)
    asked = parser.parse_args()
    if asked.replay is not None:
        if asked.target is None:
            parser.error("REPLAY needs TARGET, too: whose input it is.")
        return _replay(target(asked.target), asked.replay)
    return _fuzz([target(asked.target)] if asked.target else list(TARGETS), asked.minutes * 60)


def _replay(found: Target, path: Path) -> int:
    beside = path.parent / "artefacts"
    artefacts = Artefacts.kept_in(beside if beside.is_dir() else _artefacts_folder())
    try:
        found.feed(artefacts, path.read_bytes())
    except BaseException:  # noqa: BLE001  whatever it is, it is what was asked for
        traceback.print_exc()
        return 1
    finally:
        artefacts.close()
    print(f"{found.name} reads {path} and says nothing that it should not.")  # noqa: T201
    return 0


def _artefacts_folder() -> Path:
    """New code may write other things: each state of it has its own."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "agent").rglob("*.py")):
        digest.update(path.read_bytes())
    return KEPT / "artefacts" / digest.hexdigest()[:12]


def _fuzz(targets: list[Target], seconds: float) -> int:
    artefacts = Artefacts.kept_in(_artefacts_folder())
    guided = importlib.util.find_spec("atheris") is not None
    if not guided:
        version = ".".join(map(str, sys.version_info[:2]))
        _say(
            f"There is no atheris for Python {version} on this machine, so nothing guides the search: inputs are "
            "changed at random, as in the short run. Use Python 3.11 to 3.13 on x86_64 for more."
        )
    _say(HEADINGS)
    outcomes = []
    try:
        for found in targets:
            run = _guided if guided else _blind
            outcomes.append(run(found, artefacts, seconds / len(targets)))
            _say(outcomes[-1].line())
    except KeyboardInterrupt:
        _say("Stopped.")
    finally:
        artefacts.close()
    crashes = [(outcome.name, path) for outcome in outcomes for path in outcome.crashes]
    _say(f"{sum(outcome.inputs for outcome in outcomes):,} inputs, {len(crashes)} of them broke a reader.")
    for name, path in crashes:
        _say(f"  make fuzz TARGET={name} REPLAY={path.relative_to(ROOT)}")
    return 1 if crashes else 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _guided(found: Target, artefacts: Artefacts, seconds: float) -> Outcome:
    corpus, seeds = KEPT / "corpus" / found.name, KEPT / "seeds" / found.name
    for folder in (corpus, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(found.seeds(artefacts)):
        (seeds / f"{number:03d}").write_bytes(seed)
    outcome = Outcome(found.name)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 1 and len(outcome.crashes) < _MAX_CRASHES:
        with tempfile.TemporaryDirectory(prefix="bodycam-fuzz-", dir=artefacts.work) as work:
            made = Path(work, "made")
            made.mkdir()
            command = [
                sys.executable, "-m", "tests.fuzz.child", found.name, str(artefacts.folder), work,
                str(corpus), str(seeds), f"-artifact_prefix={made}/", f"-max_total_time={int(left)}",
                f"-max_len={found.max_bytes}", f"-timeout={HANG_S}", f"-rss_limit_mb={MAX_RSS_MB}",
                "-print_final_stats=1",
            ]  # fmt: skip
            with (KEPT / f"{found.name}.log").open("wb") as log:
                code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False).returncode
            said = (KEPT / f"{found.name}.log").read_text(errors="replace")
            broken = [path for path in made.iterdir() if not path.name.startswith("slow-unit")]
            _count(outcome, said)
            outcome.seconds = seconds - max(end - time.monotonic(), 0)
            outcome.crashes += [_kept(found, artefacts, path.read_bytes(), said) for path in broken]
            if code and not broken:
                raise RuntimeError(f"atheris did not run {found.name}; its words are in {KEPT / found.name}.log.")
    return outcome


def _count(outcome: Outcome, said: str) -> None:
    outcome.inputs += sum(map(int, _EXECUTED.findall(said)))
    reached = [int(count) for _, count in _COVERAGE.findall(said)]
    begun = [int(count) for event, count in _COVERAGE.findall(said) if event == "INITED"]
    if begun:
        first = outcome.coverage[0] if outcome.coverage else begun[0]
        outcome.coverage = (first, max(reached))


def _blind(found: Target, artefacts: Artefacts, seconds: float) -> Outcome:
    outcome = Outcome(found.name)
    seeds, random = found.seeds(artefacts), Random(SystemRandom().random())
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds and len(outcome.crashes) < _MAX_CRASHES:
        data = mutated(random, seeds, found.max_bytes, is_json=found.is_json)
        outcome.inputs, outcome.seconds = outcome.inputs + 1, elapsed
        try:
            found.feed(artefacts, data)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  also a foreign parser's panic, which is no Exception
            outcome.crashes.append(_kept(found, artefacts, data, traceback.format_exc()))
    return outcome


def _kept(found: Target, artefacts: Artefacts, data: bytes, said: str) -> Path:
    """An input that broke a reader, beside what it was made for and what came of it."""
    folder = KEPT / "crashes" / f"{found.name}-{hashlib.sha256(data).hexdigest()[:12]}"
    shutil.copytree(artefacts.folder, folder / "artefacts", dirs_exist_ok=True)
    (folder / "input").write_bytes(data)
    (folder / "said.txt").write_text(said)
    return folder / "input"


if __name__ == "__main__":
    sys.exit(main())
