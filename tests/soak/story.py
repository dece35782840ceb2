"""What a shift leaves for its judge, beside the vault and the frame log: one JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.vitals import Vitals


@dataclass(frozen=True, slots=True)
class Life:
    """One start of the camera, to its end. Times are of that boot; to_ns: when its end was asked for, or it was killed.

    end: "kill", "kill-in-operation", "stop". rested: it was killed with nothing on its way to the card but the GOP in
    flight. open_files: how many files it had not closed when it had ended.
    """

    boot_id: str
    from_ns: int
    to_ns: int
    end: str
    open_files: int
    rested: bool = False


@dataclass(frozen=True, slots=True)
class Press:
    """A start gesture: when it was complete, on the clock of that boot."""

    boot_id: str
    at_ns: int


@dataclass(slots=True)
class Story:
    """counts: of what was done to the camera, by name. simulated_s: the whole shift. cpu_s, wall_s: what it took."""

    hours: float
    seed: int
    lives: list[Life] = field(default_factory=list)
    presses: list[Press] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    vitals: list[Vitals] = field(default_factory=list)
    simulated_s: float = 0.0
    cpu_s: float = 0.0
    wall_s: float = 0.0

    def count(self, name: str) -> None:
        """It happened once more."""
        self.counts[name] = self.counts.get(name, 0) + 1

    def counted(self, *prefixes: str) -> int:
        """How often anything happened whose name begins with one of these."""
        return sum(number for name, number in self.counts.items() if name.startswith(prefixes))

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Story:
        """What `write` wrote."""
        told: dict[str, Any] = json.loads(path.read_text())
        told["lives"] = [Life(**life) for life in told["lives"]]
        told["presses"] = [Press(**press) for press in told["presses"]]
        told["vitals"] = [Vitals(**vitals) for vitals in told["vitals"]]
        return cls(**told)
