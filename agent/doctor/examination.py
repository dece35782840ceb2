"""The whole examination, in the order in which things depend on one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agent.capture.camera import CameraFormat
from agent.clock import Clock
from agent.doctor.camera import check_camera
from agent.doctor.check import Check, State, fail, skipped
from agent.doctor.encoder import check_encoder
from agent.doctor.encryption import check_encryption
from agent.doctor.gpio import check_gpio
from agent.doctor.host import check_host
from agent.doctor.identity import check_identity
from agent.doctor.microphone import check_microphone
from agent.doctor.serial_line import check_serial
from agent.doctor.storage import check_storage
from agent.doctor.wall_clock import judge_clock, probe_clock
from agent.doctor.witness import check_witness
from agent.errors import StorageError, VaultLockedError
from agent.settings.schema import Settings, VideoSettings
from agent.vault.lock import VaultLock

_IN_USE = "`bodycam run` is using it; `bodycam status` says how it is."


def daemon_runs(settings: Settings) -> bool:
    """Whether a `bodycam run` holds the vault (its flock). Takes the lock for an instant if not."""
    try:
        VaultLock(settings.vault.path).release()
    except VaultLockedError:
        return True
    except StorageError:
        return False  # no vault yet, or none that can be opened; the storage check says which
    return False


def _wall_clock(_: Settings, clock: Clock) -> list[Check]:
    return judge_clock(probe_clock(clock))


@dataclass(frozen=True, slots=True)
class Examination:
    """Every look that is taken; each can be replaced by another for a test."""

    daemon_runs: Callable[[Settings], bool] = daemon_runs
    camera: Callable[[Settings, Clock], tuple[Check, CameraFormat | None]] = check_camera
    encoder: Callable[[VideoSettings, CameraFormat, Clock], Check] = check_encoder
    microphone: Callable[[Settings, Clock], Check] = check_microphone
    gpio: Callable[[Settings], Check] = check_gpio
    serial: Callable[[Settings], Check] = field(default=lambda settings: check_serial(settings.bridge))
    storage: Callable[[Settings, Clock], list[Check]] = check_storage
    witness: Callable[[Settings], Check] = check_witness
    wall_clock: Callable[[Settings, Clock], list[Check]] = _wall_clock
    identity: Callable[[Settings, Clock], Check] = check_identity
    encryption: Callable[[Settings], Check] = check_encryption
    host: Callable[..., list[Check]] = check_host

    def run(self, settings: Settings, clock: Clock) -> Iterator[Check]:
        """Each result as it is known. A look that breaks in a way nobody foresaw is a failed check, not the end."""
        running = self.daemon_runs(settings)
        asked = settings.camera
        camera_format = CameraFormat(asked.width, asked.height, asked.fps, "yuv420p")

        def camera() -> list[Check]:
            nonlocal camera_format
            check, given = self.camera(settings, clock)
            camera_format = given or camera_format
            return [check]

        looks: tuple[tuple[str, bool, Callable[[], list[Check]]], ...] = (
            ("camera", True, camera),
            ("encoder", True, lambda: [self.encoder(settings.video, camera_format, clock)]),
            ("microphone", True, lambda: [self.microphone(settings, clock)]),
            ("gpio", True, lambda: [self.gpio(settings)]),
            ("serial", True, lambda: [self.serial(settings)]),
            ("vault", False, lambda: self.storage(settings, clock)),
            ("witness", False, lambda: [self.witness(settings)]),
            ("clock", False, lambda: self.wall_clock(settings, clock)),
            ("key", False, lambda: [self.identity(settings, clock)]),
            ("encryption", False, lambda: [self.encryption(settings)]),
            ("memory", False, lambda: self.host(settings, daemon_runs=running)),
        )
        for name, is_taken_by_daemon, look in looks:
            if running and is_taken_by_daemon:
                yield skipped(name, _IN_USE)
                continue
            try:
                yield from look()
            except Exception as error:  # noqa: BLE001  one broken look must not hide what the others would find
                found = f"The check itself broke: {type(error).__name__}: {error}."
                yield fail(name, found, "Report this with the output of `bodycam doctor --json`.")


def exit_code(checks: list[Check]) -> int:
    """0 when nothing failed, else 1."""
    return int(any(check.state is State.FAIL for check in checks))
