"""The camera: does it give frames, of the size and at the rate that were asked for, stamped on the boot clock?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.capture.camera import Camera, CameraFormat
from agent.clock import NS_PER_S, Clock
from agent.doctor.check import Check, fail, failed_with, ok, warn, within
from agent.errors import BodycamError
from agent.settings.schema import CameraSettings, Settings

FRAMES = 3
# Starting a sensor, its exposure and a USB negotiation take seconds before the first frame comes.
START_S = 10
# picamera2's modules, from a slow card.
LOAD_S = 20
OPEN_ADVICE = "Check the cable, [camera] backend and device, and that no other program has the camera open."


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """A session that gave FRAMES frames. captured_ns: their times; read_ns: boot time when the last one was here."""

    name: str
    format: CameraFormat
    captured_ns: tuple[int, ...]
    read_ns: int


CameraOpener = Callable[[CameraSettings, Clock], Camera]


def open_camera(settings: CameraSettings, clock: Clock) -> Camera:
    """The camera as the daemon opens it."""
    from agent.capture.factory import open_camera as opener

    return opener(settings, clock)


def probe_camera(settings: CameraSettings, clock: Clock, opener: CameraOpener = open_camera) -> CameraFacts:
    """Open the camera, read FRAMES frames, close it. Raises CameraError, and TimeoutError when it hangs."""

    def loaded() -> Camera:
        camera = opener(settings, clock)
        load = getattr(camera, "load", None)
        if load is not None:
            load()
        return camera

    camera = within(LOAD_S, loaded)

    def session() -> CameraFacts:
        try:
            camera_format = camera.open()
            captured_ns = tuple(camera.read().captured_ns for _ in range(FRAMES))
            return CameraFacts(camera.name, camera_format, captured_ns, clock.boottime_ns())
        finally:
            camera.close()

    return within(START_S + FRAMES * settings.stall_ms / 1000, session)


def judge_camera(facts: CameraFacts, settings: CameraSettings) -> Check:
    """Against what was asked for. Times off the boot clock would set sound and picture apart and the records wrong."""
    given = facts.format
    said = f"{facts.name} gives {given.width}x{given.height} {given.pixel_format}"
    steps_ns = [later - earlier for earlier, later in zip(facts.captured_ns, facts.captured_ns[1:], strict=False)]
    if min(steps_ns) <= 0:
        return fail(
            "camera", f"{said}, but its time stamps do not increase.", "Update the camera's driver or firmware."
        )
    age_ns = facts.read_ns - facts.captured_ns[-1]
    if not 0 <= age_ns <= 5 * NS_PER_S:
        return fail(
            "camera",
            f"{said}, but its time stamps are {age_ns / NS_PER_S:.1f} s away from the boot clock.",
            "Use a driver that stamps frames on CLOCK_MONOTONIC or CLOCK_BOOTTIME, and do not suspend the machine.",
        )
    fps = NS_PER_S * len(steps_ns) / sum(steps_ns)
    said = f"{said} at {fps:.1f} frames/s"
    if (given.width, given.height) != (settings.width, settings.height):
        return warn(
            "camera",
            f"{said}; {settings.width}x{settings.height} was asked for.",
            f"Set camera.width = {given.width} and camera.height = {given.height}, or use a camera that can do more.",
        )
    if not 0.8 * settings.fps <= fps <= 1.2 * settings.fps:
        return warn(
            "camera",
            f"{said}; {settings.fps} was asked for.",
            "Give it more light (exposure limits the rate), or set camera.fps to what it can do.",
        )
    return ok("camera", f"{said}.")


def check_camera(
    settings: Settings, clock: Clock, opener: CameraOpener = open_camera
) -> tuple[Check, CameraFormat | None]:
    """The camera's check, and its format for the encoder's."""
    try:
        facts = probe_camera(settings.camera, clock, opener)
    except BodycamError as error:
        return failed_with("camera", error, OPEN_ADVICE), None
    except TimeoutError as error:
        return fail("camera", f"The camera hangs: {error}.", "Unplug it and plug it in again, or reboot."), None
    check = judge_camera(facts, settings.camera)
    if settings.profile != "bench" and settings.camera.backend in {"file", "synthetic"} and not check.advice:
        check = warn("camera", check.found, "Set [camera] backend to a real camera: this one films nothing.")
    return check, facts.format
