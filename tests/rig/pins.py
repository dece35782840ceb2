"""Python packages for another Python, and another processor, than the one that fetches them: by the project's locks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.rig.layers import ROOT


def requirement_lines(lock: str) -> Iterator[tuple[Requirement, str]]:
    """Each requirement of a lock and its text with hashes, on one line."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "requirements" / lock).read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        yield Requirement(line.split("--hash=")[0]), " ".join(line.split())


def pinned(lock: str, *names: str, python: str) -> str:
    """The lines of a lock (of all packages, or of `names`) that hold on the device, without their markers.

    pip evaluates markers for the Python it runs on and not for the one it downloads for.
    """
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    lines = []
    for requirement, text in requirement_lines(lock):
        wanted = not names or canonicalize_name(requirement.name) in names
        if wanted and (requirement.marker is None or requirement.marker.evaluate(environment)):
            lines.append(f"{requirement.name}{requirement.specifier} {text[text.index('--hash=') :]}")
    return "\n".join(lines) + "\n"


def wheels_for(python: str, machine: str) -> list[str]:
    """pip's options for the pinned wheels, and nothing else, of another Python and processor than its own."""
    platforms = (*(f"manylinux_2_{glibc}_{machine}" for glibc in (34, 28, 27, 17)), f"manylinux2014_{machine}", "any")
    return [
        "--no-deps", "--only-binary=:all:", "--require-hashes", f"--python-version={python}", "--implementation=cp",
        f"--abi=cp{python.replace('.', '')}", "--abi=abi3", "--abi=none",
        *(f"--platform={platform}" for platform in platforms),
    ]  # fmt: skip
