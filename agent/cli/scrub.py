"""`bodycam scrub`: looks for bit rot while the camera idles."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agent.cli.output import say
from agent.clock import SystemClock
from agent.control.client import ControlClient
from agent.scrub.card import Card
from agent.scrub.pace import Ask
from agent.scrub.position import PositionFile
from agent.scrub.scrub import Scrub
from agent.settings.schema import Settings

LOWEST_PRIORITY = 19
CONTROL_TIMEOUT_S = 30.0


def scrub(settings: Settings, *, mb_per_s: float, state: Path | None) -> int:
    """Go through the configured vault once, from where `state` says the last run was; returns 1 when any file differs.

    Raises EvidenceNotFound, EvidenceDamagedError, StorageError.
    """
    os.setpriority(os.PRIO_PROCESS, 0, LOWEST_PRIORITY)
    ask = _daemon(settings.vault.socket_path)
    if ask is None:
        say("No camera runs here: what is found is printed and not journalled.")
    report = Scrub(
        settings.vault.path,
        card=Card(),
        clock=SystemClock(),
        bytes_per_s=round(mb_per_s * 1e6),
        positions=PositionFile(state),
        ask=ask,
        say=say,
    ).run()
    say(
        f"{report['files']} sealed files of {report['recordings']} recordings, {report['bytes'] / 1e6:.0f} MB, were "
        f"read again since {report['from_utc']}; {report['differing'] or 'none'} differ from what was signed."
    )
    if report["differing"]:
        say("Run `bodycam verify` on the vault, offload what is good, and replace the card.")
    return 1 if report["differing"] else 0


def _daemon(socket_path: Path) -> Ask | None:
    """The way to the daemon, or None when none runs here."""
    try:
        if not stat.S_ISSOCK(socket_path.stat().st_mode):
            return None
    except OSError:
        return None
    return ControlClient(socket_path, timeout_s=CONTROL_TIMEOUT_S).request
