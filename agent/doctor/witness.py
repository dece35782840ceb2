"""The memory outside the card: can it be written, and does it lie on other flash, so that it proves something?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agent.doctor.check import Check, ok, skipped, warn
from agent.doctor.storage import IN_MEMORY, filesystem_type
from agent.settings.schema import Settings
from agent.witness.medium import share_medium

_ADVICE = (
    "Set vault.witness_path to a file on other flash than the vault's, with a journalling file system such as ext4."
)


@dataclass(frozen=True, slots=True)
class WitnessFacts:
    """shared: whether it lies on the vault's disk, None when that cannot be told."""

    folder_exists: bool
    is_writable: bool
    filesystem: str
    shared: bool | None


def probe_witness(vault: Path, witness: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> WitnessFacts:
    """Raises OSError when one of the two cannot be looked at."""
    folder = witness.resolve().parent
    if not folder.is_dir():
        return WitnessFacts(False, False, "unknown", None)
    return WitnessFacts(
        folder_exists=True,
        is_writable=os.access(witness if witness.exists() else folder, os.W_OK),
        filesystem=filesystem_type(folder, mountinfo.read_text(encoding="utf-8")),
        shared=share_medium(vault, witness),
    )


def judge_witness(facts: WitnessFacts, settings: Settings) -> Check:
    """A camera records with a useless one as well as without."""
    path = settings.vault.witness_path
    if not facts.folder_exists:
        return warn(
            "witness",
            f"There is no folder {Path(path).parent} to remember in what the card has confirmed.",
            f"Make it, for this user (uid {os.geteuid()}).",
        )
    if not facts.is_writable:
        return warn("witness", f"{path} cannot be written.", f"Give it to this user (uid {os.geteuid()}).")
    if facts.shared:
        return warn("witness", f"{path} lies on the vault's own disk and proves nothing against it.", _ADVICE)
    if facts.filesystem in IN_MEMORY:
        return warn("witness", f"{path} is in memory ({facts.filesystem}): a power cut takes it.", _ADVICE)
    if facts.filesystem == "overlay":
        return warn("witness", f"{path} is on an overlay: the upper layer may be in memory.", _ADVICE)
    if facts.shared is None:
        return ok("witness", f"{path} can be written; whether it is on other flash than the vault cannot be told here.")
    return ok("witness", f"{path} can be written and is on other flash than the vault ({facts.filesystem}).")


def check_witness(settings: Settings) -> Check:
    """The check of what remembers the card."""
    if not settings.vault.witness_path:
        return skipped("witness", "Nothing remembers the card outside of it (vault.witness_path is empty).")
    path = Path(settings.vault.witness_path)
    try:
        return judge_witness(probe_witness(settings.vault.path, path), settings)
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links, before Python 3.13
        return warn("witness", f"{path} cannot be looked at: {error}.", "Correct vault.witness_path.")
