"""Timestamp records: which tokens count, what bounds they put on each recording, and what is wrong with the others.

What an honest camera never writes is a failure: a token that is not over the record it names, or one that stands there
twice. What the network can do to an honest camera is a warning: `run` cannot tell a false authority from a true one, so
such a token is only left out.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509

from agent.errors import TimestampError
from agent.trust.timestamps import Doubt, Timestamp, doubt, read_response
from agent.verify.fields import FieldError, Fields
from agent.verify.finding import Code, Findings, Severity
from agent.verify.interval import Anchor, Interval, estimate, outside_ns, rate_error_ns, seconds, utc_json, utc_ns
from agent.verify.journal import JournalLine
from agent.verify.words import counted

# A token arrives within two minutes of its request: this is far more records than a camera writes in that time.
WINDOW_RECORDS = 4096


@dataclass(slots=True)
class _Span:
    """A recording's records as claims of time."""

    boot_id: str
    boottime_ns: int
    claims: list[tuple[int, int | None]]
    clock_source: str
    before: Anchor | None
    after: Anchor | None = None
    closed_seq: int | None = None


class TimestampCheck:
    """Takes journal lines in order; afterwards `finish`, then `interval`. Memory grows with recordings only."""

    def __init__(self, roots: Sequence[x509.Certificate] | None, findings: Findings) -> None:
        """roots: certificates of time authorities that the examiner trusts, None when they gave none."""
        self._roots = roots
        self._findings = findings
        self._hashes: deque[tuple[int, str]] = deque(maxlen=WINDOW_RECORDS)
        self._latest: Anchor | None = None
        self._last_named: tuple[int, str] = (0, "")
        self._spans: dict[str, _Span] = {}
        self._waiting: set[str] = set()
        self.tokens = 0

    def take(self, line: JournalLine) -> None:
        """The next line. Raises FieldError when its times or its token's fields cannot be used."""
        record = line.record
        if not line.unbroken:
            # Across a broken chain no token says anything about what is on the other side.
            self._hashes.clear()
            self._latest = None
            self._waiting.clear()
        self._hashes.append((record.seq, record.sha256))
        if record.type == "timestamp":
            self._token(line, Fields(record.fields))
        recording_id = record.fields.get("recording_id")
        if isinstance(recording_id, str) and record.type != "offload":
            self._recording(recording_id, line, Fields(record.fields))

    def finish(self, recording_ids: Iterable[str]) -> None:
        """Say what is missing for these recordings, once all of the journal has been taken."""
        if self.tokens and self._roots is None:
            self._findings.note(
                Code.TIMESTAMP_UNCHECKED,
                "journal",
                f"{counted(self.tokens, 'timestamp was', 'timestamps were')} not checked against a time "
                "authority; get its root certificate and give it with --tsa-root TSA.pem.",
            )
        if not self.tokens and self._roots is None:
            return  # nothing claims trusted time, and nobody asked for it
        for recording_id in recording_ids:
            if span := self._spans.get(recording_id):
                self._judge(recording_id, span)

    def interval(self, recording_id: str) -> Interval | None:
        """What is known of a recording's time; None when it has no records."""
        if (span := self._spans.get(recording_id)) is None:
            return None
        return Interval(
            span.before,
            span.after,
            self._roots is not None,
            estimate(span.before, span.after, span.boot_id, span.boottime_ns),
            span.clock_source,
            span.claims[0][1],
        )

    def _recording(self, recording_id: str, line: JournalLine, fields: Fields) -> None:
        claim = (fields.utc_ns(), fields.optional_integer("clock_uncertainty_ms"))
        span = self._spans.get(recording_id)
        if span is None:
            span = self._spans[recording_id] = _Span(
                fields.text("boot_id"),
                fields.integer("boottime_ns"),
                [claim],
                fields.text("clock_source"),
                self._latest,
            )
        if line.record.type == "recording-open":
            span.boottime_ns = fields.integer("media_origin_boottime_ns")
        elif line.record.type == "recording-close" and span.closed_seq is None:
            span.claims.append(claim)
            span.closed_seq = line.record.seq
            self._waiting.add(recording_id)

    def _token(self, line: JournalLine, fields: Fields) -> None:
        self.tokens += 1
        head_seq, head_sha256 = fields.count("head_seq"), fields.sha256("head_sha256")
        requested_ns, boottime_ns = fields.count("requested_boottime_ns"), fields.count("boottime_ns")
        if requested_ns > boottime_ns:
            raise FieldError("it was asked for after it came")
        timestamp = self._read(line, fields)
        if timestamp is None or not self._is_in_its_place(line, head_seq, head_sha256, timestamp):
            return
        if not self._is_trusted(line, timestamp):
            return
        anchor = Anchor(
            line.record.seq,
            head_seq,
            timestamp.gen_time,
            timestamp.authority,
            utc_ns(timestamp.earliest),
            utc_ns(timestamp.latest),
            fields.text("boot_id"),
            requested_ns,
            boottime_ns,
        )
        if self._latest is not None:
            self._compare(line, self._latest, anchor)
        self._latest = anchor
        for recording_id in [found for found in self._waiting if self._is_covered(found, head_seq)]:
            self._spans[recording_id].after = anchor
            self._waiting.discard(recording_id)

    def _is_covered(self, recording_id: str, head_seq: int) -> bool:
        closed_seq = self._spans[recording_id].closed_seq
        return closed_seq is not None and closed_seq <= head_seq

    def _read(self, line: JournalLine, fields: Fields) -> Timestamp | None:
        response = fields.text("response")
        try:
            timestamp = read_response(base64.b64decode(response, validate=True))
            if base64.b64encode(timestamp.response).decode() != response:
                raise TimestampError("Its base64 is not written in the one form that there is.")
        except (binascii.Error, ValueError, TimestampError) as error:
            self._findings.fail(
                Code.TIMESTAMP_BAD,
                line.place,
                f"The timestamp in record {line.record.seq} cannot be read, and no camera journals such a one: {error}",
                at=line.ordinal,
            )
            return None
        if fields.text("gen_time") != timestamp.gen_time.strftime("%Y-%m-%dT%H:%M:%SZ"):
            raise FieldError(f"its gen_time is not that of its token ({timestamp.gen_time:%Y-%m-%d %H:%M:%S} UTC)")
        return timestamp

    def _is_in_its_place(self, line: JournalLine, head_seq: int, head_sha256: str, timestamp: Timestamp) -> bool:
        last_seq, last_response = self._last_named
        response = line.record.fields["response"]
        if timestamp.imprint_sha256 != head_sha256:
            why = "it is over something else than the hash that its record names"
        elif (head_seq, head_sha256) not in self._hashes:
            why = f"record {head_seq} does not have the hash that it is over"
        elif head_seq < last_seq or response == last_response:
            why = "it stands in the journal a second time"
        else:
            self._last_named = (head_seq, response)
            return True
        self._findings.fail(
            Code.TIMESTAMP_REPLAYED,
            line.place,
            f"The timestamp in record {line.record.seq} does not belong there: {why}.",
            at=line.ordinal,
        )
        return False

    def _is_trusted(self, line: JournalLine, timestamp: Timestamp) -> bool:
        if self._roots is None or (found := doubt(timestamp, self._roots)) is None:
            return True
        kind, why = found
        code = {
            Doubt.UNTRUSTED: Code.TIMESTAMP_UNTRUSTED,
            Doubt.OUTSIDE_VALIDITY: Code.TIMESTAMP_EXPIRED,
            Doubt.ALTERED: Code.TIMESTAMP_BAD,
        }[kind]
        self._findings.warn(
            code,
            line.place,
            f"The timestamp in record {line.record.seq}, made {timestamp.gen_time:%Y-%m-%d %H:%M:%S} UTC, does not "
            f"count: {why}.",
            at=line.ordinal,
        )
        return False

    def _compare(self, line: JournalLine, earlier: Anchor, later: Anchor) -> None:
        if later.latest_ns < earlier.earliest_ns:
            self._findings.warn(
                Code.TIMESTAMP_ORDER,
                line.place,
                f"The timestamp in record {later.seq} says {later.gen_time:%Y-%m-%d %H:%M:%S} UTC and was asked for "
                f"after the one in record {earlier.seq}, which says {earlier.gen_time:%Y-%m-%d %H:%M:%S}: a time "
                "authority's clock was wrong.",
                at=line.ordinal,
            )
        elif earlier.boot_id == later.boot_id and (moved := rate_error_ns(earlier, later)):
            self._findings.warn(
                Code.TIME_RATE,
                line.place,
                f"Between the timestamps in records {earlier.seq} and {later.seq} the authority's time and the "
                f"camera's boot clock came apart by {seconds(moved)}; no working clock does that.",
                at=line.ordinal,
            )

    def _judge(self, recording_id: str, span: _Span) -> None:
        missing = [
            text
            for text, anchor in (
                ("no timestamp before it says when it cannot have been written yet", span.before),
                ("no timestamp after its end says by when it existed", span.after),
            )
            if anchor is None
        ]
        if missing:
            self._findings.add(
                Code.TIMESTAMP_ABSENT,
                Severity.NOTE if self._roots is None else Severity.WARN,
                recording_id,
                f"Its time is not bounded on {'both sides' if len(missing) == 2 else 'one side'}: "
                f"{', and '.join(missing)}.",
                recording_id=recording_id,
            )
        not_before = span.before.earliest_ns if span.before else None
        existed_by = span.after.latest_ns if span.after else None
        for claimed_ns, uncertainty_ms in span.claims:
            if off_ns := outside_ns(claimed_ns, uncertainty_ms, not_before, existed_by):
                limit = "existed by" if off_ns > 0 else "was not written before"
                bound = existed_by if off_ns > 0 else not_before
                self._findings.warn(
                    Code.TIME_OUTSIDE_TIMESTAMPS,
                    recording_id,
                    f"The camera's clock ({span.clock_source[:40]}) said {utc_json(claimed_ns)}, but by the timestamps "
                    f"it {limit} {utc_json(bound)}: its clock was off by {seconds(off_ns)} or more.",
                    recording_id=recording_id,
                )
                break
