"""What must hold of a vault after power went or a process was killed, checked from the files alone.

`Shift` runs the product once over a `CrashFilesystem` and remembers, with each operation, what the product had promised
by then: the fragments it had told the controller were durable. `check` recovers a state of the disk and looks whether
each promise holds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.clock import NS_PER_S, SimulatedClock
from agent.errors import BodycamError
from agent.media.mp4 import walk, whole_fragments_bytes
from agent.settings.schema import Settings
from agent.vault.layout import VaultLayout
from agent.vault.record import Record
from agent.verify.finding import Severity
from agent.verify.report import Report
from agent.verify.verify import verify_path
from tests.support.bench import Bench, rebooted
from tests.support.crashfs import CrashFilesystem
from tests.support.evidence_key import EVIDENCE, opened
from tests.support.identity import BENCH_IDENTITY
from tests.support.playback import journal_records, of_type, play, recording_bytes


class Violation(AssertionError):
    """A promise did not hold."""


@dataclass(frozen=True)
class Promise:
    """A fragment that the product called durable, with the number of operations done by then."""

    operations: int
    number: int
    fragment: int


class Shift:
    """One run of the product over a recording filesystem."""

    def __init__(self, filesystem: CrashFilesystem, settings: Settings, clock: SimulatedClock | None = None) -> None:
        self.filesystem = filesystem
        self.bench = Bench(filesystem, settings, clock=clock)
        self.promises: list[Promise] = []
        self.closed: list[tuple[int, int]] = []
        daemon = self.bench.daemon
        durable, closed = daemon.fragment_durable, daemon.recording_closed

        def fragment_durable(number: int, fragment: int) -> None:
            self.promises.append(Promise(len(filesystem.operations), number, fragment))
            durable(number, fragment)

        def recording_closed(number: int) -> None:
            self.closed.append((len(filesystem.operations), number))
            closed(number)

        # The recorder tells the daemon; the shift listens in.
        daemon.fragment_durable = fragment_durable  # type: ignore[method-assign]
        daemon.recording_closed = recording_closed  # type: ignore[method-assign]

    @property
    def records(self) -> list[Record]:
        """The journal as it stood at the end of the run."""
        return journal_records(self.filesystem, self.bench.layout)

    def promised_before(self, operations: int) -> list[Promise]:
        """What had been promised when that many operations were done."""
        return [promise for promise in self.promises if promise.operations <= operations]


@dataclass
class Outcome:
    """What a check found. lost_ns: video behind the last whole fragment of an interrupted recording."""

    recovered: list[str]
    resume_from: str | None


def recover(state: CrashFilesystem, settings: Settings, clock: SimulatedClock) -> Bench:
    """The next start of the product on this disk, without a camera."""
    bench = Bench(state, settings, clock=clock)
    try:
        bench.open_vault()
    except BodycamError as error:
        raise Violation(f"the vault does not open: {error}: {state.origin}") from error
    if bench.recorder is None:
        raise Violation(f"the vault does not open: {state.origin}")
    bench.settle()
    return bench


def check(
    state: CrashFilesystem,
    shift: Shift,
    promised: list[Promise],
    *,
    clock: SimulatedClock,
    decode: bool = True,
    tmp: Path | None = None,
) -> Outcome:
    """Recover and check one state of the disk. Raises Violation naming the state and what does not hold."""
    before = {record.seq: record for record in journal_records(state, shift.bench.layout)}
    bench = recover(state, shift.bench.settings, clock)
    layout = bench.layout
    records = journal_records(state, layout)
    _check_chain(records, before, state)
    ids = {int(fields["number"]): str(fields["recording_id"]) for fields in of_type(shift.records, "recording-open")}
    for promise in promised:
        _check_promise(state, layout, records, ids[promise.number], promise)
    named = {str(record.fields["recording_id"]) for record in records if record.type in ("segment", "checkpoint")}
    for recording_id in sorted({*state.list_dir(layout.recordings), *named}):
        _check_recording(state, layout, records, recording_id, decode=decode)
    if tmp is not None:
        check_with_verifier(state, tmp)
    return Outcome(list(bench.recovered.recording_ids), bench.recovered.resume_from)


def verified(state: CrashFilesystem, tmp: Path) -> Report:
    """What the product's own verifier says of the vault."""
    target = tmp / f"vault-{len(list(tmp.iterdir()))}"
    state.materialise(target)
    BENCH_IDENTITY.install(VaultLayout(target))
    return verify_path(target, roots=[BENCH_IDENTITY.root], identities=EVIDENCE.identities)


def check_with_verifier(state: CrashFilesystem, tmp: Path) -> None:
    """The product's own verifier passes the vault, too."""
    report = verified(state, tmp)
    failed = [finding for finding in report.findings if finding.severity is Severity.FAIL]
    if failed:
        raise Violation(f"verify: {[str(finding) for finding in failed]}: {state.origin}")


def _check_chain(records: list[Record], before: dict[int, Record], state: CrashFilesystem) -> None:
    prev = "0" * 64
    for seq, record in enumerate(records, 1):
        if record.seq != seq or record.prev != prev:
            raise Violation(f"the journal's chain breaks at {seq}: {state.origin}")
        prev = record.sha256
    for seq, record in before.items():
        if records[seq - 1].json_bytes != record.json_bytes:
            raise Violation(f"recovery changed record {seq}: {state.origin}")


def _check_promise(
    state: CrashFilesystem, layout: VaultLayout, records: list[Record], recording_id: str, promise: Promise
) -> None:
    checkpoints = [
        fields for fields in of_type(records, "checkpoint", recording_id) if fields["fragment"] == promise.fragment
    ]
    if not checkpoints:
        raise Violation(f"the checkpoint of {promise} is gone: {state.origin}")
    fields = checkpoints[0]
    path = layout.recording(recording_id) / str(fields["file"])
    if state.size_bytes(path) is None:
        raise Violation(f"the file of {promise} is gone: {state.origin}")
    data = state.read(path)[: int(fields["bytes"])]
    if hashlib.sha256(data).hexdigest() != fields["sha256"]:
        raise Violation(f"the bytes of {promise} are not those of its checkpoint: {state.origin}")


def _check_recording(
    state: CrashFilesystem, layout: VaultLayout, records: list[Record], recording_id: str, *, decode: bool
) -> None:
    folder = layout.recording(recording_id)
    if not of_type(records, "recording-close", recording_id):
        raise Violation(f"recording {recording_id} is not sealed: {state.origin}")
    try:
        document: dict[str, Any] = json.loads(state.read(folder / "recording.json"))
    except (FileNotFoundError, ValueError) as error:
        raise Violation(f"recording.json of {recording_id}: {error}: {state.origin}") from error
    if document["recording_id"] != recording_id:
        raise Violation(f"recording.json of {recording_id} is of another: {state.origin}")
    whole: dict[str, int] = {}
    for fields in of_type(records, "segment", recording_id):
        path = folder / str(fields["file"])
        if fields["state"] == "missing":
            raise Violation(f"{path.name} was checkpointed and is missing: {state.origin}")
        if state.size_bytes(path) is None:
            if fields["bytes"] == 0:
                continue
            raise Violation(f"{path.name} is recorded and missing: {state.origin}")
        data = state.read(path)
        if hashlib.sha256(data[: int(fields["bytes"])]).hexdigest() != fields["sha256"]:
            raise Violation(f"{path.name} is not what its record says: {state.origin}")
        if fields["state"] == "recovered" and not fields["checkpoint_intact"]:
            raise Violation(f"{path.name} had lost checkpointed bytes: {state.origin}")
        if path.name.endswith(".age"):
            whole[path.name] = _check_opens(data[: int(fields["bytes"])], fields, records, state)
        else:
            with state.open_read(path) as stream:
                whole[path.name] = min(whole_fragments_bytes(stream), int(fields["bytes"]))
    opened = of_type(records, "recording-open", recording_id)
    (close,) = of_type(records, "recording-close", recording_id)
    if close.get("init_file") and (
        state.size_bytes(folder / "init.mp4") is None
        or hashlib.sha256(state.read(folder / "init.mp4")).hexdigest() != close["init_sha256"]
    ):
        raise Violation(f"init.mp4 of {recording_id} is not what recovery signed: {state.origin}")
    if opened:
        init = state.read(folder / "init.mp4")
        if hashlib.sha256(init).hexdigest() != opened[0]["init_sha256"]:
            raise Violation(f"init.mp4 of {recording_id} is not what its record says: {state.origin}")
    if decode and opened and any(whole.values()):
        counters = play(recording_bytes(state, folder, until=whole)).counters
        numbers = [number for number in counters if number is not None]
        # Zeros or garbage that a torn write left may stand inside the last fragment that no checkpoint vouches for.
        vouched = sum(int(fields["frames"]) for fields in of_type(records, "checkpoint", recording_id))
        if counters[:vouched] != list(range(numbers[0], numbers[0] + vouched)):
            raise Violation(f"{recording_id} does not decode frame by frame: {state.origin}")


def _check_opens(cipher: bytes, fields: dict[str, Any], records: list[Record], state: CrashFilesystem) -> int:
    """Each checkpoint's ciphertext opens to its plaintext, whole fragments to the last byte; returns the last's end."""
    name = str(fields["file"])
    end = 0
    for checkpoint in of_type(records, "checkpoint", str(fields["recording_id"])):
        if checkpoint["file"] != name:
            continue
        end = int(checkpoint["bytes"])
        plain = opened(cipher[:end])
        if len(plain) != checkpoint["plain_bytes"]:
            raise Violation(f"{name} opens to {len(plain)} bytes at fragment {checkpoint['fragment']}: {state.origin}")
        if hashlib.sha256(plain).hexdigest() != checkpoint["plain_sha256"]:
            raise Violation(f"{name} opens to other bytes at fragment {checkpoint['fragment']}: {state.origin}")
        if any(box.type not in (b"moof", b"mdat", b"free") for box in walk(plain)):
            raise Violation(f"{name} holds more than fragments: {state.origin}")
    return end


def next_boot(shift: Shift, boottime_ns: int | None = None) -> SimulatedClock:
    """The clock of a reboot after a cut at a boot time of the shift, the end of it by default."""
    clock = shift.bench.clock
    behind_ns = clock.boottime_ns() - (clock.boottime_ns() if boottime_ns is None else boottime_ns)
    return rebooted(clock, after_s=20 - behind_ns / NS_PER_S)
