"""One kind of tampering: what a forger does to a copy of a sound package, and what has to be said of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.verify.finding import Code
from tests.tamper.bases import Bases
from tests.tamper.log import Log

CODES = frozenset(code.value for code in Code)


@dataclass(frozen=True)
class Forger:
    """Who has a copy of a package in hand, and everything of `bases` to take from."""

    package: Path
    bases: Bases

    def path(self, name: str) -> Path:
        """A file of the copy."""
        return self.package / name

    def read(self, name: str) -> bytes:
        """Its bytes."""
        return self.path(name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Put something in its place."""
        self.path(name).write_bytes(data)

    def steal(self, base: str, name: str) -> bytes:
        """The bytes of another package's file."""
        return (self.bases.packages[base] / name).read_bytes()

    def log(self) -> Log:
        """The copy's journal."""
        return Log(self.package)

    def renew_sums(self) -> None:
        """SHA256SUMS over whatever plain files lie there now, which takes no key."""
        sums = self.path("SHA256SUMS")
        if sums.is_symlink() or not sums.is_file():
            return
        names = sorted(
            str(path.relative_to(self.package))
            for path in self.package.rglob("*")
            if path.is_file() and path != sums and not any(part.startswith(".") for part in path.parts[-2:])
        )
        lines = (f"{hashlib.sha256(self.read(name)).hexdigest()}  {name}\n" for name in names)
        sums.write_bytes("".join(lines).encode())


Harm = Callable[[Forger], object]


@dataclass(frozen=True)
class Expected:
    """Which codes have to be among the findings of a severity, and which failures may be there besides.

    anything: other failures may follow from these.
    """

    fails: frozenset[str]
    perhaps: frozenset[str]
    warns: frozenset[str]
    notes: frozenset[str]
    anything: bool = False

    @classmethod
    def of(cls, text: str) -> Expected:
        """`CODE` fails, `CODE?` may fail or not by where chance put the bytes, `warn:CODE` and `note:CODE`, `...`."""
        found: dict[str, set[str]] = {"fail": set(), "perhaps": set(), "warn": set(), "note": set()}
        for word in text.split():
            if word == "...":
                continue
            severity, _, code = word.rpartition(":")
            if code.endswith("?"):
                severity = "perhaps"
            code = code.removesuffix("?")
            assert code in CODES, f"there is no code {code}"
            found[severity or "fail"].add(code)
        fails, perhaps, warns, notes = (frozenset(codes) for codes in found.values())
        return cls(fails, perhaps, warns, notes, "..." in text.split())

    def without(self, codes: set[str], *, anything: bool) -> Expected:
        """The same for a reader that does not know some codes, and to whom other failures may follow."""
        return Expected(
            self.fails - codes, self.perhaps, self.warns - codes, self.notes - codes, self.anything or anything
        )

    @property
    def outcome(self) -> str:
        """What the reader of a report sees of it."""
        if self.fails:
            return "fails"
        return "to be judged" if self.warns else "noted" if self.notes else "passes"

    def differences(self, fails: set[str], warns: set[str], notes: set[str]) -> list[str]:
        """How what was found differs, in words; empty when it does not."""
        wrong = [f"no failure {code}" for code in sorted(self.fails - fails)]
        more = set() if self.anything and self.fails else fails - self.fails - self.perhaps
        wrong += [f"a failure {code}" for code in sorted(more)]
        wrong += [f"no warning {code}" for code in sorted(self.warns - warns)]
        wrong += [f"no note {code}" for code in sorted(self.notes - notes)]
        return wrong

    def text(self) -> str:
        """For the page."""
        words = [*sorted(self.fails), *(f"{code} (warning)" for code in sorted(self.warns))]
        words += [f"{code} (note)" for code in sorted(self.notes)]
        return ", ".join(words)


@dataclass(frozen=True)
class Kind:
    """One row of the matrix; what has to be found of it is declared in table.py's files under its section and name.

    sums: the forger writes SHA256SUMS anew, too. opened: `verify` has the evidence system's key.
    """

    section: str
    name: str
    base: str
    harm: Harm
    sums: bool = True
    opened: bool = False

    @property
    def id(self) -> str:
        """For the test's name and the page."""
        return f"{self.section}: {self.name}" + ("" if self.sums else ", sums left")

    def commit(self, package: Path, bases: Bases) -> None:
        """Do it to a copy."""
        forger = Forger(package, bases)
        self.harm(forger)
        if self.sums:
            forger.renew_sums()
