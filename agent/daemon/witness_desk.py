"""At each start: what the memory outside the card says of it, into the journal, the log and the wearer's status.

From then on each commit of the journal is handed on to that memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.daemon.logs import log
from agent.errors import StorageError
from agent.settings.schema import Settings
from agent.vault.journal import Journal
from agent.vault.journal_end import JournalEnd
from agent.vault.record import ZERO_HASH
from agent.witness.card import look
from agent.witness.comparison import Comparison, Outcome, compare
from agent.witness.file import WitnessFile
from agent.witness.keeper import WitnessKeeper
from agent.witness.medium import share_medium
from agent.witness.memory import Memory

WITNESS_TIMEOUT_S = 2.0
"""How long an end waits for it to be up to date."""
_QUIET = frozenset({Outcome.AGREES, Outcome.ABSENT})


class WitnessDesk:
    """Used from the thread that opens the vault; `status` from any."""

    def __init__(self, keeper: WitnessKeeper, clock: Clock, accuse: Callable[[str, bool], None]) -> None:
        """accuse(message, told): called once when the card lacks what it had confirmed; told: the journal says so."""
        self._keeper = keeper
        self._clock = clock
        self._accuse = accuse
        self._outcome: Outcome | None = None
        self._accused = False

    def attend(self, journal: Journal, end: JournalEnd) -> Comparison:
        """Compare a journal in which this start has not written yet, and remember what it confirms from now on."""
        memory, readable = None, True
        try:
            memory = self._keeper.remembered()
        except StorageError as error:
            readable = False
            log("witness-unreadable", logging.WARNING, error=str(error))
        card = look(end, journal.head[0], memory)
        comparison = compare(memory, card, readable=readable)
        self._outcome = comparison.outcome
        level = logging.INFO if comparison.outcome in _QUIET else logging.WARNING
        log("witness", level, **comparison.fields())
        message = comparison.accusation
        if message is not None and not self._accused:  # a vault whose opening fails behind this is opened again
            self._accused = True
            self._accuse(message, comparison.outcome is Outcome.TOLD)

        # Of a journal whose beginning cannot be read, but which has what is remembered, it is known from there.
        known = None if memory is None or comparison.outcome is Outcome.ANOTHER_JOURNAL else memory.journal_sha256

        def confirmed(seq: int, sha256: str) -> None:
            first = card.first_sha256 or journal.first_sha256 or known or ZERO_HASH
            self._keeper.confirmed(Memory(first, seq, sha256, self._clock.boot_id, self._clock.boottime_ns()))

        journal.on_confirmed = confirmed
        return comparison

    def status(self) -> dict[str, Any]:
        """For `bodycam status`. start: what the comparison at the start came to, None before it."""
        return {
            "start": None if self._outcome is None else self._outcome.value,
            "seq": self._keeper.written_seq,
            "up_to_date": self._keeper.is_up_to_date,
        }


def open_witness(settings: Settings, clock: Clock) -> WitnessKeeper | None:
    """What remembers the card, at work; None when there is to be none. Logs when it lies on the card itself."""
    if not settings.vault.witness_path:
        return None
    path = Path(settings.vault.witness_path)
    keeper = WitnessKeeper(WitnessFile(path), clock).start()
    # On a thread of its own: a medium that hangs must not keep the camera from starting.
    look_at = threading.Thread(
        target=_look_at_medium, args=(settings.vault.path, path), name="witness-medium", daemon=True
    )
    look_at.start()
    return keeper


def _look_at_medium(vault: Path, witness: Path) -> None:
    try:
        shared = share_medium(vault, witness)
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links, before Python 3.13
        log("witness-medium", logging.WARNING, error=str(error))
        return
    if shared:
        message = f"{witness} lies on the same disk as the vault and proves nothing against it; put it on other flash."
        log("witness-medium", logging.WARNING, message=message)
