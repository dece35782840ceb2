"""Settings that are each in bounds and cannot be together.

Each rule names the keys that it is about, the one to change first in front: the loader turns them into file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from agent.encryption.recipients import why_unfit
from agent.settings.schema import Settings

# Rate control promises an average; a quarter more is what a capped VBV may add over a whole buffer, with container and
# packet overhead far below it.
BUFFER_HEADROOM_PERCENT = 125
MAX_RECIPIENTS = 8
"""Each takes about 100 bytes in front of every segment; more than this is a mistake."""
CAMERAS_WITHOUT_SOUND = ("picamera2", "webcam")


@dataclass(frozen=True, slots=True)
class Conflict:
    """One impossible combination. `keys`: dotted names; `expected`: completes "expected …"."""

    keys: tuple[str, ...]
    expected: str


def needed_buffer_bytes(settings: Settings) -> int:
    """Bytes the ring needs to keep what [buffer] promises.

    Seconds: the pre-event buffer, two GOPs (it starts on a keyframe, and the newest GOP is still open), and the time
    that storage may stall before the wearer is alarmed, because the same ring is the write backlog. Times the bitrates,
    times BUFFER_HEADROOM_PERCENT.
    """
    slack_ms = 2 * settings.video.gop_ms + settings.recording.durable_timeout_ms
    duration_ms = settings.buffer.pre_event_s * 1000 + slack_ms
    bitrate_bps = settings.video.bitrate_bps
    if settings.audio.source != "none":
        bitrate_bps += settings.audio.bitrate_bps
    return -(-duration_ms * bitrate_bps * BUFFER_HEADROOM_PERCENT // (1000 * 8 * 100))


def roles_by_pin(settings: Settings) -> list[tuple[int, str]]:
    """Every fitted pin with the key that claims it, sorted."""
    gpio = settings.gpio
    named = {
        "record_button_pin": gpio.record_button_pin,
        "led_red_pin": gpio.led_red_pin,
        "led_green_pin": gpio.led_green_pin,
        "led_blue_pin": gpio.led_blue_pin,
        "buzzer_pin": gpio.buzzer_pin,
        "vibration_pin": gpio.vibration_pin,
    }
    roles = [(pin, f"gpio.{name}") for name, pin in named.items() if pin >= 0]
    roles += [(pin, "gpio.trigger_input_pins") for pin in gpio.trigger_input_pins]
    return sorted(roles)


def conflicts(settings: Settings) -> list[Conflict]:
    """Every impossible combination in the settings; empty when they can be used."""
    return [
        *_bench(settings),
        *_pins(settings),
        *_picture(settings),
        *_sound(settings),
        *_times(settings),
        *_key(settings),
        *_paths(settings),
        *_encryption(settings),
    ]


def _bench(settings: Settings) -> Iterator[Conflict]:
    gpio = settings.gpio
    if settings.profile != "bench":
        if gpio.factory == "mock":
            yield Conflict(
                ("gpio.factory", "profile"),
                'factory = "lgpio", because mock pins have no button and only profile = "bench" may use them',
            )
        if gpio.bench_pin_socket_path:
            yield Conflict(
                ("gpio.bench_pin_socket_path", "profile"),
                'no such key outside profile = "bench", because whoever opens that socket can press the button',
            )
        if gpio.record_button_pin < 0:
            yield Conflict(
                ("gpio.record_button_pin", "profile"),
                'the BCM number of the record button\'s pin, because without a button only profile = "bench" may start',
            )
    elif gpio.bench_pin_socket_path and gpio.factory != "mock":
        yield Conflict(
            ("gpio.bench_pin_socket_path", "gpio.factory"),
            'factory = "mock" with it, because the socket presses mock pins and cannot press real ones',
        )


def _pins(settings: Settings) -> Iterator[Conflict]:
    for pin, claims in groupby(roles_by_pin(settings), key=lambda role: role[0]):
        keys = tuple(key for _, key in claims)
        if len(keys) > 1:
            names = " and ".join(key.removeprefix("gpio.") for key in keys)
            yield Conflict(tuple(dict.fromkeys(keys)), f"one role a pin, but {names} all claim pin {pin}")
    if settings.gpio.factory == "lgpio" and not settings.gpio.chip_labels:
        yield Conflict(
            ("gpio.chip_labels", "gpio.factory"), 'at least one label of a GPIO chip, such as ["pinctrl-bcm2711"]'
        )


def _picture(settings: Settings) -> Iterator[Conflict]:
    camera, video = settings.camera, settings.video
    for name, pixels in (("width", camera.width), ("height", camera.height)):
        if pixels % 2:
            yield Conflict(
                (f"camera.{name}",), f"an even number such as {pixels - 1}, because 4:2:0 video halves it for colour"
            )
    if camera.backend == "file" and not camera.device:
        yield Conflict(
            ("camera.device", "camera.backend"), 'the path of a video file or of a folder of images for backend "file"'
        )
    if video.encoder == "h264_v4l2m2m" and camera.width % 32:
        yield Conflict(
            ("camera.width", "video.encoder"),
            f"a multiple of 32 such as {camera.width & ~31}, because the hardware encoder skews any other width",
        )
    if video.gop_ms * camera.fps < 1000:
        yield Conflict(
            ("video.gop_ms", "camera.fps"), f"at least {-(-1000 // camera.fps)}, which is one frame at this fps"
        )
    if camera.stall_ms * camera.fps < 2000:
        yield Conflict(
            ("camera.stall_ms", "camera.fps"),
            f"at least {-(-2000 // camera.fps)}, two frames at this fps, or a healthy camera counts as stalled",
        )
    needed_bytes = needed_buffer_bytes(settings)
    if settings.buffer.max_bytes < needed_bytes:
        yield Conflict(
            ("buffer.max_bytes", "buffer.pre_event_s", "video.bitrate_bps"),
            f"at least {needed_bytes} to hold {settings.buffer.pre_event_s} s and a write backlog at this bitrate",
        )


def _sound(settings: Settings) -> Iterator[Conflict]:
    audio, camera = settings.audio, settings.camera
    if audio.source == "camera" and camera.backend in CAMERAS_WITHOUT_SOUND:
        yield Conflict(
            ("audio.source", "camera.backend"),
            f'"alsa" or "none", because the backend "{camera.backend}" carries no sound',
        )
    if settings.buffer.audio and audio.source == "none":
        # A profile may have set it: then whoever wrote the other key has never seen this one.
        yield Conflict(
            ("buffer.audio", "audio.source"),
            'false, because audio.source is "none"; write audio = false under [buffer] in your own file, beside '
            'source = "none" under [audio]',
        )


def _times(settings: Settings) -> Iterator[Conflict]:
    gestures, video, vault = settings.gestures, settings.video, settings.vault
    if gestures.hold_ms <= gestures.double_press_ms:
        yield Conflict(
            ("gestures.hold_ms", "gestures.double_press_ms"),
            f"more than double_press_ms ({gestures.double_press_ms}), or a start could be read as a stop",
        )
    if gestures.double_press_ms <= 4 * gestures.debounce_ms:
        yield Conflict(
            ("gestures.double_press_ms", "gestures.debounce_ms"),
            f"more than {4 * gestures.debounce_ms}, because its four edges must each outlast debounce_ms",
        )
    if video.gop_ms > vault.segment_s * 1000:
        yield Conflict(
            ("video.gop_ms", "vault.segment_s"),
            f"at most {vault.segment_s * 1000}, because a segment holds at least one whole GOP",
        )
    if vault.signer_timeout_ms > video.gop_ms:
        yield Conflict(
            ("vault.signer_timeout_ms", "video.gop_ms"),
            f"at most gop_ms ({video.gop_ms}), because the video is signed a GOP at a time, and a signer that may take "
            "longer leaves GOPs behind without a signature",
        )
    if settings.recording.durable_timeout_ms <= video.gop_ms:
        yield Conflict(
            ("recording.durable_timeout_ms", "video.gop_ms"),
            f"more than gop_ms ({video.gop_ms}), because nothing can be durable before its GOP is complete",
        )


def _key(settings: Settings) -> Iterator[Conflict]:
    key = settings.key
    needed = {
        "module_path": (key.module_path, "the path of the PKCS#11 module (a .so file) that speaks to the token"),
        "token": (key.token, "the label of the token, as `pkcs11-tool --module … --list-token-slots` prints it"),
        "label": (key.label, "the label of the key on the token"),
        "pin_path": (key.pin_path, "the path of a file with the token's PIN"),
    }
    for name, (value, what) in needed.items():
        if key.backend == "pkcs11" and not value:
            yield Conflict((f"key.{name}", "key.backend"), f'{what}, for backend "pkcs11"')
        elif key.backend == "software" and value and name != "label":
            # Whoever names a token believes that it signs; a key file must not do so in its place.
            yield Conflict(("key.backend", f"key.{name}"), f'"pkcs11", because {name} is of no use to a software key')


def _paths(settings: Settings) -> Iterator[Conflict]:
    vault = settings.vault
    outside = {
        "vault.key_path": (vault.key_path, "offload may read the vault and must never see the key"),
        "vault.receipt_queue_path": (
            vault.receipt_queue_path,
            "offload writes there and must not write into the vault",
        ),
        "vault.socket_path": (vault.socket_path, "only evidence lies in the vault"),
    }
    if vault.witness_path:
        outside["vault.witness_path"] = (
            Path(vault.witness_path),
            "what the card has confirmed must be remembered outside of it",
        )
    if settings.key.pin_path:
        outside["key.pin_path"] = (Path(settings.key.pin_path), "offload may read the vault and must never see the PIN")
    for key, (path, why) in outside.items():
        if _is_inside(path, vault.path):
            yield Conflict((key, "vault.path"), f"a path outside the vault {vault.path}, because {why}")


def _encryption(settings: Settings) -> Iterator[Conflict]:
    recipients = settings.encryption.recipients
    if len(recipients) > MAX_RECIPIENTS or len(set(recipients)) < len(recipients):
        yield Conflict(("encryption.recipients",), f"at most {MAX_RECIPIENTS} keys, each of them once")
    elif why := next(filter(None, map(why_unfit, recipients)), None):
        yield Conflict(("encryption.recipients",), f"keys that can be used, but {why}")
    if settings.device.wearer and not recipients:
        yield Conflict(
            ("device.wearer", "encryption.recipients"),
            "empty, because a name is journalled only sealed to encryption.recipients, and there are none",
        )


def _is_inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents
