"""Whoever holds the camera's key can sign anything; what is signed must still agree with itself and with the files."""

from __future__ import annotations

from typing import Any

from tests.tamper.kind import Forger, Harm, Kind

SECTION = "Contradictions under the camera's own key"


def says(type_: str, nth: int = 0, **fields: Any) -> Harm:
    """One record says something else; the chain is signed anew."""

    def harm(forger: Forger) -> None:
        log = forger.log()
        log.first(type_, nth).update(fields)
        log.resign(forger.bases.camera.record_signer, forger.bases.successor.record_signer)

    return harm


def adds(type_: str, nth: int = 0, **changes: int) -> Harm:
    """The same with numbers that go up or down."""

    def harm(forger: Forger) -> None:
        log = forger.log()
        fields = log.first(type_, nth)
        for name, change in changes.items():
            fields[name] += change
        log.resign(forger.bases.camera.record_signer)

    return harm


def lacks(type_: str, nth: int = 0) -> Harm:
    """One record is taken out."""

    def harm(forger: Forger) -> None:
        log = forger.log()
        del log.lines[log.at(type_, nth)]
        log.resign(forger.bases.camera.record_signer)

    return harm


def repeats(type_: str, before: str, nth: int = 0) -> Harm:
    """One record stands again in front of another."""

    def harm(forger: Forger) -> None:
        log = forger.log()
        log.lines.insert(log.at(before), log.lines[log.at(type_, nth)].copy())
        log.resign(forger.bases.camera.record_signer)

    return harm


def follows(type_: str, nth: int = 0) -> Harm:
    """One record stands again at the end."""

    def harm(forger: Forger) -> None:
        log = forger.log()
        log.lines.append(log.lines[log.at(type_, nth)].copy())
        log.resign(forger.bases.camera.record_signer)

    return harm


def forgets(type_: str, name: str) -> Harm:
    """One field is taken out."""

    def harm(forger: Forger) -> None:
        log = forger.log()
        del log.first(type_)[name]
        log.resign(forger.bases.camera.record_signer)

    return harm


def witnessed(outcome: str, *, seq: int, found: int) -> dict[str, Any]:
    """What a start says of the memory outside the card."""
    return {"witness": outcome, "witness_seq": seq, "witness_sha256": "0" * 64, "witness_found_seq": found}


NAMES = {
    "a path upwards": "../000001.m4s",
    "an absolute path": "/etc/passwd",
    "a device": "/dev/zero",
    "a path into the package": "device/chain.pem",
    "a line break": "000001.m4s\n",
    "a blank": "000001.m4s x",
    "five digits": "00001.m4s",
    "digits of another script": "\u0660\u0660\u0660\u0660\u0660\u0661.m4s",
    "a shell's command": "$(touch pwned).m4s",
    "nothing": "",
}

KINDS = [
    Kind(SECTION, "no trigger", "plain", lacks("trigger")),
    Kind(SECTION, "no opening record", "plain", lacks("recording-open")),
    Kind(SECTION, "no segment record", "plain", lacks("segment")),
    Kind(SECTION, "no closing record", "plain", lacks("recording-close")),
    Kind(SECTION, "the last checkpoint of a segment left out", "plain", lacks("checkpoint", 1)),
    Kind(SECTION, "the very last checkpoint left out", "plain", lacks("checkpoint", -1)),
    Kind(SECTION, "triggered twice", "plain", repeats("trigger", "stop")),
    Kind(SECTION, "opened twice", "plain", repeats("recording-open", "stop")),
    Kind(SECTION, "closed twice", "plain", follows("recording-close")),
    Kind(SECTION, "a checkpoint again behind its segment's record", "plain", repeats("checkpoint", "stop")),
    Kind(SECTION, "a segment sealed twice", "plain", repeats("segment", "stop")),
    Kind(SECTION, "a stop behind the close", "plain", follows("stop")),
    Kind(SECTION, "a journal-open in the middle", "plain", repeats("journal-open", "stop")),
    Kind(SECTION, "fewer frames in a checkpoint", "plain", adds("checkpoint", frames=-1)),
    Kind(SECTION, "fewer sounds in a checkpoint", "plain", adds("checkpoint", audio_frames=-1)),
    Kind(SECTION, "a checkpoint with another number", "plain", adds("checkpoint", 1, fragment=1)),
    Kind(SECTION, "a checkpoint that begins earlier", "plain", adds("checkpoint", 1, first_media_90k=-1)),
    Kind(SECTION, "a checkpoint that begins later", "plain", adds("checkpoint", 1, first_media_90k=1)),
    Kind(SECTION, "a checkpoint that ends later", "plain", adds("checkpoint", -1, end_media_90k=1)),
    Kind(SECTION, "a checkpoint with fewer bytes", "plain", adds("checkpoint", bytes=-1)),
    Kind(SECTION, "a checkpoint whose bytes do not go on", "plain", says("checkpoint", 1, bytes=10)),
    Kind(SECTION, "a checkpoint with another hash", "plain", says("checkpoint", sha256="0" * 64)),
    Kind(SECTION, "a segment with another hash", "plain", says("segment", sha256="0" * 64)),
    Kind(SECTION, "a segment with more frames", "plain", adds("segment", frames=1)),
    Kind(SECTION, "a segment with fewer bytes", "plain", adds("segment", bytes=-1)),
    Kind(SECTION, "a segment in a state that is none", "plain", says("segment", state="fine")),
    Kind(SECTION, "a segment called missing", "plain", says("segment", state="missing")),
    Kind(SECTION, "a segment called recovered", "plain", says("segment", state="recovered")),
    Kind(SECTION, "a segment called torn", "plain", says("segment", state="torn")),
    Kind(SECTION, "a segment without its hash", "plain", forgets("segment", "sha256")),
    Kind(SECTION, "a close with more gaps", "plain", adds("recording-close", gaps=1)),
    Kind(SECTION, "a close with fewer frames", "plain", adds("recording-close", frames=-1)),
    Kind(SECTION, "a close that ends later", "plain", adds("recording-close", end_media_90k=1)),
    Kind(SECTION, "a close without its sum of bytes", "plain", forgets("recording-close", "bytes")),
    Kind(SECTION, "init.mp4 with another hash", "plain", says("recording-open", init_sha256="0" * 64)),
    Kind(SECTION, "init.mp4 one byte shorter", "plain", adds("recording-open", init_bytes=-1)),
    Kind(SECTION, "init.mp4 called otherwise", "plain", says("recording-open", init_file="../init.mp4")),
    Kind(SECTION, "a recording's id that is a path", "plain", says("trigger", recording_id="../..")),
    Kind(SECTION, "a recording's id that is a list", "plain", says("trigger", recording_id=["x"])),
    Kind(SECTION, "a time that is none", "plain", says("stop", utc="yesterday")),
    Kind(SECTION, "a day that is none", "plain", says("stop", utc="2026-02-31T00:00:00.000000Z")),
    Kind(SECTION, "the boot clock goes back", "plain", says("stop", boottime_ns=1)),
    Kind(SECTION, "a journal file that says it is another", "plain", says("journal-open", file="000007.journal")),
    Kind(SECTION, "an extract from the middle of a run", "plain", says("journal-open", reason="rotated")),
    Kind(SECTION, "a certificate that is not there", "plain", says("journal-open", certificate_sha256="0" * 64)),
    Kind(SECTION, "a certificate that is null", "plain", says("journal-open", certificate_sha256=None)),
    Kind(SECTION, "another camera's name", "plain", says("journal-open", device_id="CAM-0002")),
    Kind(SECTION, "the gap's record left out", "gap", lacks("gap")),
    Kind(SECTION, "a gap that says nothing of its frames", "gap", forgets("gap", "frames")),
    Kind(SECTION, "the torn line's hash", "power cut", says("journal-open", 1, torn_sha256="0" * 64)),
    Kind(SECTION, "the torn line's length", "power cut", adds("journal-open", 1, torn_bytes=1)),
    Kind(SECTION, "the previous file's name", "power cut", says("journal-open", 1, prev_file="000007.journal")),
    Kind(SECTION, "no interruption, says a recovered recording", "power cut",
         says("recording-close", recovered=False, missed_frames=0)),
    Kind(SECTION, "a recovered segment called whole", "power cut", says("segment", -1, state="whole")),
    Kind(SECTION, "a recovered segment with more frames", "power cut", adds("segment", -1, frames=1)),
    Kind(SECTION, "a recovered segment with another last checkpoint", "power cut",
         adds("segment", -1, checkpointed_bytes=-1)),
    Kind(SECTION, "a recovered segment that was changed before", "power cut",
         says("segment", -1, checkpoint_intact=False)),
    Kind(SECTION, "the successor introduced as another", "rotated",
         says("certificate-changed", certificate_sha256="0" * 64)),
    Kind(SECTION, "a card that had lost what it confirmed, says a start", "power cut",
         says("boot", 1, **witnessed("lost", seq=9, found=8))),
    Kind(SECTION, "a card that had another record than it confirmed, says a start", "power cut",
         says("boot", 1, **witnessed("differs", seq=8, found=9))),
    Kind(SECTION, "a card that had lost records that it has, says a start", "power cut",
         says("boot", 1, **witnessed("lost", seq=8, found=9))),
    Kind(SECTION, "a card that had lost no record in particular, says a start", "power cut",
         says("boot", 1, witness="lost")),
    Kind(SECTION, "another card than the one remembered, says a start", "power cut",
         says("boot", 1, **witnessed("another-journal", seq=9, found=0))),
    Kind(SECTION, "another card than the one remembered, says a start, and not how far that one reached", "power cut",
         says("boot", 1, witness="another-journal")),
    Kind(SECTION, "a memory outside the card that says what none can", "plain", says("boot", witness="perhaps")),
    *(Kind(SECTION, f"a segment's name that is {name}", "plain", says("checkpoint", file=text))
      for name, text in NAMES.items()),
]  # fmt: skip
