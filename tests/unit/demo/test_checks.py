"""What the demonstration takes for an answer of a package's own verify.sh."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.demo.checks import ScriptVerdict, run_package_script
from agent.errors import DemoError

MISSED = "3 frames are missing in its picture."


def script(folder: Path, changed: dict[str, str], exit_code: int = 0) -> Path:
    """A package whose verify.sh says this."""
    standings = {"integrity": "holds", "origin": "holds", "time": "open", "completeness": "holds"} | changed
    lines = [f"{name.upper():<13} {said:<8} {MISSED}" for name, said in standings.items()]
    words = "\n".join(["warn FRAMES_MISSED " + MISSED, *lines])
    (folder / "verify.sh").write_text(f"cat <<'END'\n{words}\nEND\nexit {exit_code}\n")
    return folder


@pytest.mark.parametrize("completeness", ["holds", "limited"])
def test_frames_that_a_busy_computer_missed_are_an_answer(tmp_path: Path, completeness: str) -> None:
    found = run_package_script(script(tmp_path, {"completeness": completeness}), tmp_path / "root.pem")
    assert found["completeness"] == ScriptVerdict(completeness, MISSED)
    assert found["time"].standing == "open"
    assert list(found) == ["integrity", "origin", "time", "completeness"]


@pytest.mark.parametrize(
    "changed",
    [
        {"integrity": "limited"}, {"origin": "open"}, {"origin": "limited"}, {"completeness": "open"},
        {"completeness": "fails"}, {"integrity": "unknown"},
    ],
)  # fmt: skip
def test_too_little_is_not(tmp_path: Path, changed: dict[str, str]) -> None:
    with pytest.raises(DemoError, match=f"too little of its {next(iter(changed))}:\nwarn FRAMES_MISSED"):
        run_package_script(script(tmp_path, changed), tmp_path / "root.pem")


def test_a_refusal_is_not_whatever_its_verdicts(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="does not accept it"):
        run_package_script(script(tmp_path, {}, 1), tmp_path / "root.pem")
