"""What records say of encryption: to whom, whether that changed, and what was sealed."""

from __future__ import annotations

from agent.encryption.identity import Identities
from agent.errors import EncryptionError
from agent.vault.layout import is_encrypted
from agent.vault.record import Record
from agent.verify.fields import FieldError, Fields
from agent.verify.finding import Code, Findings
from agent.verify.words import counted

_REASONS = frozenset({"first", "unchanged", "re-enrolled"})


class EncryptionCheck:
    """Takes every record in order."""

    def __init__(self, identities: Identities | None, findings: Findings) -> None:
        """identities: open what was sealed; None leaves it closed."""
        self._identities = identities
        self._findings = findings
        self._recipients: frozenset[str] | None = None
        """Those of the newest `encryption` record; None before the first."""
        self._closed: dict[str, int] = {}

    def take(self, record: Record, ordinal: int, *, looked_into: bool) -> None:
        """Check the next record. looked_into: its recording is one whose media is checked. Raises FieldError."""
        fields = Fields(record.fields)
        if record.type == "encryption":
            self._enrolment(fields, record, ordinal)
        elif record.type in ("checkpoint", "segment"):
            self._file(fields)
            if (
                record.type == "segment"
                and looked_into
                and self._identities is None
                and is_encrypted(fields.text("file"))
            ):
                recording_id = fields.text("recording_id")
                self._closed[recording_id] = self._closed.get(recording_id, 0) + 1
        elif record.type == "recording-open" and "sealed" in record.fields and looked_into:
            self._sealed(fields)

    def finish(self) -> None:
        """Report what stayed closed."""
        for recording_id, count in self._closed.items():
            self._findings.note(
                Code.NOT_DECRYPTED,
                recording_id,
                f"{counted(count, 'encrypted segment was', 'encrypted segments were')} checked as stored, and not "
                "looked into; whoever has the evidence system's key can, with --identity KEY.txt.",
                recording_id=recording_id,
            )

    def _enrolment(self, fields: Fields, record: Record, ordinal: int) -> None:
        said = record.fields.get("recipients")
        if not isinstance(said, list) or not all(isinstance(text, str) for text in said):
            raise FieldError('its "recipients" are no list of texts')
        recipients, before, reason = frozenset(said), self._recipients, fields.text("reason")
        if reason not in _REASONS:
            raise FieldError(f"its reason {reason[:40]!r} is not one there is")
        self._recipients = recipients
        if before is None or before == recipients:
            return
        if reason == "re-enrolled":
            self._findings.warn(
                Code.ENCRYPTION_CHANGED,
                f"record {record.seq}",
                f"Record {record.seq} says that the camera was re-enrolled at {fields.utc():%Y-%m-%d %H:%M:%S} UTC: it "
                f"encrypts to {_named(recipients)} since then, and to {_named(before)} before.",
                at=ordinal,
            )
        elif before or reason != "first":
            raise FieldError("it names other recipients than the one before it, and is no re-enrolment")

    def _file(self, fields: Fields) -> None:
        name = fields.text("file")
        if self._recipients is not None and bool(self._recipients) != is_encrypted(name):
            raise FieldError(
                "its file is not encrypted, though the camera was enrolled to encrypt"
                if self._recipients
                else "its file is encrypted, though the camera was not enrolled to encrypt"
            )

    def _sealed(self, fields: Fields) -> None:
        sealed, recording_id = fields.text("sealed"), fields.text("recording_id")
        if self._identities is None:
            self._closed.setdefault(recording_id, 0)
            return
        try:
            opened = self._identities.open_sealed(sealed)
        except EncryptionError as error:
            sentence = f"The identity given does not open its sealed fields: {error}"
            self._findings.note(Code.IDENTITY, recording_id, sentence, recording_id=recording_id)
            return
        said = "; ".join(f"{key[:40]}: {value[:200]}" for key, value in sorted(opened.items())[:10])
        self._findings.note(Code.SEALED, recording_id, f"Its sealed fields say {said}.", recording_id=recording_id)


def _named(recipients: frozenset[str]) -> str:
    return ", ".join(text[:80] for text in sorted(recipients)[:8]) or "nobody"
