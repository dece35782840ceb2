"""The vault's storage: writable, flash, fast enough to make a GOP durable in time, and room for a shift.

A card that acknowledges a flush and keeps the data in a volatile cache cannot be told from an honest one by asking it;
only cutting its power can.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from agent.clock import NS_PER_MS, Clock
from agent.doctor.check import Check, fail, ok, warn
from agent.settings.rate import recording_bytes_per_s
from agent.settings.schema import Settings
from agent.vault.layout import VaultLayout, link_refused

SYNCS = 5
FEW_MINUTES = 60
TOO_FEW_MINUTES = 10
IN_MEMORY = frozenset({"tmpfs", "ramfs", "rootfs"})
_OVER_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"})


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """exists: whether the vault is there already; folder: it, or the nearest folder above it that is.

    sync_ns: how long each fdatasync of one GOP took, until `error` (a sentence's end), if any.
    """

    folder: Path
    exists: bool
    filesystem: str
    free_bytes: int
    sync_ns: tuple[int, ...]
    error: str | None


def gop_bytes(settings: Settings) -> int:
    """An average GOP with its sound: what is made durable at a time."""
    return recording_bytes_per_s(settings) * settings.video.gop_ms // 1000


def filesystem_type(path: Path, mountinfo: str) -> str:
    """Type of the file system that an absolute path without links lies on, from /proc/self/mountinfo (proc(5))."""
    best, found = -1, "unknown"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds:
            continue
        # Spaces and the like stand as octal escapes.
        mount_point = Path(fields[4].encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "replace"))
        depth = len(mount_point.parts)
        # A later line of the same mount point lies over the earlier one.
        if depth >= best and (path == mount_point or mount_point in path.parents):
            best, found = depth, kinds[0]
    return found


def probe_storage(
    vault: Path, size_bytes: int, clock: Clock, mountinfo: Path = Path("/proc/self/mountinfo")
) -> StorageFacts:
    """Write SYNCS times `size_bytes` into a new file beside the recordings, fdatasync each time, and remove the file.

    Raises OSError when not even the folder can be looked at.
    """
    folder = vault.resolve()
    exists = folder.is_dir()
    while not folder.is_dir():
        folder = folder.parent
    state = os.statvfs(folder)
    sync_ns, error = _time_syncs(folder, size_bytes, clock)
    return StorageFacts(
        folder=folder,
        exists=exists,
        filesystem=filesystem_type(folder, mountinfo.read_text(encoding="utf-8")),
        free_bytes=state.f_bavail * state.f_frsize,
        sync_ns=tuple(sync_ns),
        error=error,
    )


def _time_syncs(folder: Path, size_bytes: int, clock: Clock) -> tuple[list[int], str | None]:
    sync_ns: list[int] = []
    # Not a name that the vault uses, so that a crash in here leaves nothing that could be taken for evidence.
    path = folder / f".doctor-{secrets.token_hex(8)}"
    data = secrets.token_bytes(size_bytes)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            for _ in range(SYNCS):
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                started_ns = clock.boottime_ns()
                os.fdatasync(descriptor)
                sync_ns.append(clock.boottime_ns() - started_ns)
        finally:
            os.close(descriptor)
            path.unlink()
    except OSError as error:
        return sync_ns, (error.strerror or str(error)).lower()
    return sync_ns, None


def judge_storage(facts: StorageFacts, settings: Settings) -> list[Check]:
    """Vault, speed of durability, and space, one check each."""
    if facts.error is not None:
        user = f"this user (uid {os.geteuid()})"
        return [
            fail(
                "vault",
                f"Writing into {facts.folder} failed after {len(facts.sync_ns)} of {SYNCS} times: {facts.error}.",
                f"Make it writable for {user}, free space, or look for card errors in `dmesg`.",
            )
        ]
    return [_judge_vault(facts, settings), _judge_speed(facts, settings), _judge_space(facts, settings)]


def _judge_vault(facts: StorageFacts, settings: Settings) -> Check:
    vault = settings.vault.path
    said = f"{vault} is writable ({facts.filesystem})"
    if not facts.exists:
        said = f"{vault} is not there yet and can be made in {facts.folder} ({facts.filesystem})"
    advice = "Set vault.path to a folder on flash with a journalling file system such as ext4."
    if facts.filesystem in IN_MEMORY:
        judge = warn if settings.profile == "bench" else fail
        return judge("vault", f"{said}, which is in memory: a power cut takes everything.", advice)
    if facts.filesystem == "overlay":
        return warn("vault", f"{said}: the upper layer may be in memory, and a power cut take everything.", advice)
    if facts.filesystem in _OVER_NETWORK:
        return fail("vault", f"{said}, which is over a network.", advice)
    return ok("vault", f"{said}.")


def _judge_speed(facts: StorageFacts, settings: Settings) -> Check:
    times_ms = [ns / NS_PER_MS for ns in facts.sync_ns]
    said = (
        f"fdatasync of one GOP ({gop_bytes(settings) / 1000:.0f} kB) took {min(times_ms):.0f} to {max(times_ms):.0f} ms"
        f" in {len(times_ms)} tries"
    )
    gop_ms = settings.video.gop_ms
    if max(times_ms) >= settings.recording.durable_timeout_ms:
        return fail(
            "fsync", f"{said}: the wearer would be alarmed.", "Use a faster card (class A2, or one made for dashcams)."
        )
    if sum(times_ms) / len(times_ms) >= gop_ms:
        return fail(
            "fsync",
            f"{said}: slower than the {gop_ms} ms of video in it.",
            "Use a faster card, or lower video.bitrate_bps.",
        )
    if max(times_ms) >= gop_ms / 2:
        return warn("fsync", f"{said}.", "Use a faster card: this one has little reserve.")
    return ok("fsync", f"{said}.")


def _judge_space(facts: StorageFacts, settings: Settings) -> Check:
    minutes = facts.free_bytes / recording_bytes_per_s(settings) / 60
    said = f"{facts.free_bytes / 1e9:.1f} GB free is {minutes:.0f} minutes of recording"
    advice = "Offload what is in the vault, or use a larger card."
    if minutes < TOO_FEW_MINUTES:
        return fail("space", f"{said}.", advice)
    if minutes < FEW_MINUTES:
        return warn("space", f"{said}.", advice)
    return ok("space", f"{said}.")


def check_storage(settings: Settings, clock: Clock) -> list[Check]:
    """The storage's checks."""
    try:
        for folder in VaultLayout(settings.vault.path).folders:
            if folder.is_symlink():
                return [
                    fail("vault", f"`bodycam run` refuses to start. {link_refused(folder)}", "Do what it says there.")
                ]
        return judge_storage(probe_storage(settings.vault.path, gop_bytes(settings), clock), settings)
    except OSError as error:
        return [fail("vault", f"{settings.vault.path} cannot be looked at: {error.strerror}.", "Correct vault.path.")]
