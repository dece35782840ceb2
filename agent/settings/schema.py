"""Every setting of the agent, with its default, unit and bounds.

The loader builds these from TOML and refuses anything else; `config/bodycam.toml` documents each key for people.
Names carry units. A bound is in the field's metadata, so that loader, documentation and tests read one source.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def bounded(default: Any, low: float, high: float) -> Any:
    """A number with inclusive bounds."""
    return field(default=default, metadata={"low": low, "high": high})


def choice(default: Any, *values: Any) -> Any:
    """A string or number out of a fixed set."""
    return field(default=default, metadata={"choices": values})


def each_bounded(low: float, high: float) -> Any:
    """A list of numbers, empty by default, each with inclusive bounds."""
    return field(default=(), metadata={"low": low, "high": high})


def local_path(default: str = "") -> Any:
    """A string that is a path when not empty: relative to the file it stands in, as every Path is."""
    return field(default=default, metadata={"path": True})


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """[device]: which camera this is. `id` is the common name in its certificate (at most 64 characters, X.520).

    `wearer` names a person: it is journalled only sealed, and is not part of config_sha256.
    """

    id: str = field(
        default="CAM-0001",
        metadata={
            "pattern": r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
            "pattern_text": "1 to 64 letters, digits, '.', '_', '-', a letter or digit first",
        },
    )
    wearer: str = field(
        default="",
        metadata={
            "pattern": r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,128}",
            "pattern_text": "a string of at most 128 characters in quotes, without control characters",
        },
    )


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """[vault]: where evidence lies. `path` is the vault, `key` a software device key, `socket` the control socket."""

    path: Path = Path("/var/lib/bodycam/vault")
    key_path: Path = Path("/var/lib/bodycam/key/device.key")
    socket_path: Path = Path("/run/bodycam/control.sock")
    socket_users: tuple[str, ...] = field(
        default=("bodycam-offload",),
        metadata={
            "pattern": r"[a-z_][a-z0-9_-]{0,31}",
            "pattern_text": "names of users as they stand in /etc/passwd",
        },
    )
    socket_uids: tuple[int, ...] = each_bounded(0, 4_294_967_294)
    receipt_queue_path: Path = Path("/var/lib/bodycam/receipts")
    witness_path: str = local_path()
    segment_s: int = bounded(10, 1, 60)
    journal_rotate_bytes: int = bounded(4_000_000, 100_000, 100_000_000)
    signer_timeout_ms: int = bounded(500, 10, 10_000)


@dataclass(frozen=True, slots=True)
class KeySettings:
    """[key]: what holds the device key. All but `backend` is for "pkcs11"; a software key is at vault.key_path."""

    backend: str = choice("software", "software", "pkcs11")
    module_path: str = local_path()
    token: str = ""
    label: str = "bodycam"
    pin_path: str = local_path()


@dataclass(frozen=True, slots=True)
class EncryptionSettings:
    """[encryption]: age public keys (age-encryption.org/v1, X25519) that segments are encrypted to; none: clear."""

    recipients: tuple[str, ...] = field(
        default=(),
        metadata={
            # Lower case is what age-keygen prints; the checksum in it is checked with the library, in combinations.
            "pattern": r"age1[02-9ac-hj-np-z]{58}",
            "pattern_text": "age public keys (age1 and 58 characters)",
        },
    )


@dataclass(frozen=True, slots=True)
class BufferSettings:
    """[buffer]: the pre-event buffer. In RAM only."""

    pre_event_s: int = bounded(30, 0, 120)
    audio: bool = False
    max_bytes: int = bounded(64_000_000, 1_000_000, 512_000_000)


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """[camera]: where pictures come from. `device` is a V4L2 device, a file or a folder, as the backend needs."""

    backend: str = choice("picamera2", "picamera2", "webcam", "file", "synthetic")
    device: str = ""
    width: int = bounded(1920, 32, 4096)
    height: int = bounded(1080, 32, 2160)
    fps: int = bounded(30, 1, 120)
    stall_ms: int = bounded(1500, 200, 60_000)
    retry_max_s: int = bounded(10, 1, 300)


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """[video]: H.264. `preset` and `threads` are for libx264 only."""

    encoder: str = choice("auto", "auto", "h264_v4l2m2m", "libx264")
    bitrate_bps: int = bounded(6_000_000, 50_000, 50_000_000)
    gop_ms: int = bounded(1000, 200, 2000)
    preset: str = choice("superfast", "ultrafast", "superfast", "veryfast", "faster", "fast", "medium")
    threads: int = bounded(0, 0, 16)


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """[audio]: the microphone. `source` "camera" takes the sound that a file or synthetic camera carries."""

    source: str = choice("alsa", "none", "alsa", "camera")
    device: str = "default"
    # What AAC-LC can carry (ISO/IEC 14496-3, samplingFrequencyIndex).
    sample_rate_hz: int = choice(48_000, 8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
    channels: int = bounded(1, 1, 2)
    bitrate_bps: int = bounded(64_000, 16_000, 256_000)


@dataclass(frozen=True, slots=True)
class GpioSettings:
    """[gpio]: pins by BCM number; -1 is "not fitted". `factory` "mock" is for the bench profile only."""

    factory: str = choice("lgpio", "lgpio", "mock")
    chip_labels: tuple[str, ...] = ("pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835", "pinctrl-bcm2837")
    record_button_pin: int = bounded(17, -1, 63)
    button_pull_up: bool = True
    led_red_pin: int = bounded(22, -1, 63)
    led_green_pin: int = bounded(23, -1, 63)
    led_blue_pin: int = bounded(24, -1, 63)
    buzzer_pin: int = bounded(25, -1, 63)
    vibration_pin: int = bounded(27, -1, 63)
    trigger_input_pins: tuple[int, ...] = each_bounded(0, 63)
    bench_pin_socket_path: str = local_path()


@dataclass(frozen=True, slots=True)
class GestureSettings:
    """[gestures]: how presses are read. Start and stop are different gestures and stay so."""

    debounce_ms: int = bounded(20, 1, 200)
    double_press_ms: int = bounded(600, 200, 1500)
    hold_ms: int = bounded(3000, 1000, 10_000)
    single_press_marks: bool = True


@dataclass(frozen=True, slots=True)
class PatternSettings:
    """One entry of [panel.lights] or [panel.cues], in the notation that `agent.panel.patterns` documents."""

    light: str = ""
    sound: str = ""
    vibration: str = ""


# The values of Indication and Cue in agent.controller.signals, which this file, being below it, cannot import.
PATTERN_NAMES = (
    "starting", "ready", "accepted", "recording", "recording-unsafe", "finishing", "fault", "stopping",
    "start", "stop", "marker", "reminder", "fault-alert", "refused", "clock-unset", "storage-low", "storage-full",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PanelSettings:
    """[panel]: what the wearer sees, hears and feels. `patterns` overrides single entries of the built-in table."""

    reminder_s: int = bounded(120, 0, 3600)
    fault_repeat_s: int = bounded(20, 1, 3600)
    patterns: dict[str, PatternSettings] = field(default_factory=dict, metadata={"names": PATTERN_NAMES})


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    """[recording]: limits of one recording."""

    durable_timeout_ms: int = bounded(3000, 500, 60_000)
    resume_within_s: int = bounded(120, 0, 3600)


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """[bridge]: the serial line to the power and sensor microcontroller; empty device means not fitted."""

    device: str = ""
    baud: int = bounded(115_200, 1200, 4_000_000)


@dataclass(frozen=True, slots=True)
class TimeSettings:
    """[time]: the RFC 3161 time authority; an empty URL means that no timestamps are taken."""

    authority_url: str = field(
        default="",
        metadata={
            "pattern": r"(https?://[!-~]+)?",
            "pattern_text": "an http:// or https:// address in quotes, or nothing",
        },
    )
    timestamp_interval_s: int = bounded(300, 10, 86_400)


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration. `profile` "bench" is the only one that may use the mock pin factory."""

    profile: str = choice("production", "production", "bench")
    device: DeviceSettings = field(default_factory=DeviceSettings)
    vault: VaultSettings = field(default_factory=VaultSettings)
    key: KeySettings = field(default_factory=KeySettings)
    encryption: EncryptionSettings = field(default_factory=EncryptionSettings)
    buffer: BufferSettings = field(default_factory=BufferSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
    video: VideoSettings = field(default_factory=VideoSettings)
    audio: AudioSettings = field(default_factory=AudioSettings)
    gpio: GpioSettings = field(default_factory=GpioSettings)
    gestures: GestureSettings = field(default_factory=GestureSettings)
    panel: PanelSettings = field(default_factory=PanelSettings)
    recording: RecordingSettings = field(default_factory=RecordingSettings)
    bridge: BridgeSettings = field(default_factory=BridgeSettings)
    time: TimeSettings = field(default_factory=TimeSettings)
