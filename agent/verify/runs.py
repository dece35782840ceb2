"""Whether each run of the camera ended in order, as far as the journal says."""

from __future__ import annotations

from agent.vault.record import Record
from agent.verify.finding import Code, Findings
from agent.verify.journal import RUN_START_REASONS, JournalLine


class RunCheck:
    """Takes every record of a vault's journal in order.

    The end of a journal is the one place where a chain of hashes cannot show that records are gone. An orderly end is
    a `shutdown` record, and nothing follows on it but the next run.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._last: Record | None = None
        self._last_ordinal = 0
        self._unended: tuple[Record, int] | None = None
        """The last record before the newest run's `journal-open`, when it was no `shutdown`; and its ordinal."""
        self._run: tuple[object, object] | None = None

    def take(self, line: JournalLine) -> None:
        """The next record; notes the run before it when that had no end."""
        record = line.record
        if record.type == "journal-open" and record.fields.get("reason") in RUN_START_REASONS:
            cut = self._last is not None and self._last.type != "shutdown"
            self._unended = (self._last, self._last_ordinal) if cut and self._last is not None else None
        elif record.type == "boot":
            run = (record.fields["boot_id"], record.fields.get("pid"))
            # A process whose first writes failed opens the vault again: that is one run.
            if self._unended is not None and run != self._run:
                before, ordinal = self._unended
                self._findings.note(
                    Code.RUN_NOT_ENDED,
                    line.place,
                    f"Before the camera's start in record {record.seq} it was not switched off in order: its power was "
                    f"cut or it was killed after record {before.seq} ({before.type[:40]}, "
                    f"{str(before.fields['utc'])[:19].replace('T', ' ')} UTC).",
                    at=ordinal,
                )
            self._unended, self._run = None, run
        self._last, self._last_ordinal = record, line.ordinal

    def finish(self) -> None:
        """The journal is at its end: warn when that is no `shutdown`."""
        if self._last is None or self._last.type == "shutdown":
            return
        self._findings.warn(
            Code.RUN_NOT_ENDED,
            "journal",
            f"The journal ends with record {self._last.seq} ({self._last.type[:40]}) and not with a shutdown. Either "
            "the camera still runs, or its power was cut, or records were cut off the end: from here the three look "
            "the same. What was noted elsewhere tells them apart: a hash of the last record, a package or a timestamp "
            "of a later moment must fit this journal.",
            at=self._last_ordinal,
        )
