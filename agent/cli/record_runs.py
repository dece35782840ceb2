"""Many changed records in a row are one thing to a person: told in one sentence from the first to the last."""

from __future__ import annotations

from collections.abc import Sequence

from agent.verify.finding import Code, Finding
from agent.verify.words import media_place

MIN_RUN = 3


class RecordRuns:
    """The bad signatures among findings, in runs of records between which no good one stands."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        """findings: all of a report, so that a run goes on over records of another recording, or of none."""
        self._run_of: dict[int, list[Finding]] = {}
        bad = [f for f in findings if f.code is Code.SIGNATURE_BAD and f.record is not None and f.at is not None]
        lines = {finding.at for finding in bad}
        by_recording: dict[str | None, list[Finding]] = {}
        for finding in bad:
            by_recording.setdefault(finding.recording_id, []).append(finding)
        for own in by_recording.values():
            run: list[Finding] = []
            for finding in own:
                begin, end = (run[-1].at if run else None) or 0, finding.at or 0
                if run and any(line not in lines for line in range(begin + 1, end)):
                    self._keep(run)
                    run = []
                run.append(finding)
            self._keep(run)

    def _keep(self, run: list[Finding]) -> None:
        if len(run) >= MIN_RUN:
            for finding in run:
                self._run_of[id(finding)] = run

    def of(self, finding: Finding) -> Sequence[Finding]:
        """The run that it is in; itself when it is in none."""
        return self._run_of.get(id(finding), (finding,))

    def sentence(self, finding: Finding) -> str:
        """What to say of it, or of the run that begins with it."""
        run = self.of(finding)
        first, last = run[0].record, run[-1].record
        if len(run) < MIN_RUN or first is None or last is None:
            return finding.sentence
        spans = [f.record.media_90k for f in run if f.record is not None and f.record.media_90k is not None]
        where = f", {media_place(spans[0][0])} to {media_place(spans[-1][1])} of the recording" if spans else ""
        all_of = last.seq - first.seq + 1 == len(run)
        what = "Records" if all_of else f"{len(run)} of the records"
        return (
            f"{what} {first.seq} to {last.seq} ({first.type} … {last.type}{where}) were changed, or their signatures "
            "do not fit them; --all lists each."
        )
