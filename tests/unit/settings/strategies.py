"""Settings out of every corner of the schema, all of them possible ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from agent.settings.combinations import conflicts, needed_buffer_bytes
from agent.settings.keys import KeySpec, key_specs
from agent.settings.schema import PATTERN_NAMES, PatternSettings, Settings

# No NUL (a path cannot have one) and no lone surrogates (TOML is UTF-8); everything else may stand in a string.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
RECIPIENTS = (
    "age1ccrpkw553chdtdym35grs8xku0z0jqgt9ksaz9wexud50jgvye7s0s6w6h",
    "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
)
"""Real ones, with their checksums; nobody keeps their private keys."""
_PATH_PARTS = TEXT.filter(lambda part: part not in {"", ".", ".."} and "/" not in part)
_PATHS = st.lists(_PATH_PARTS, min_size=1, max_size=3).map(lambda parts: Path("/", "p", *parts))


def value_of(spec: KeySpec) -> st.SearchStrategy[Any]:
    """Any value that the key takes by itself."""
    low, high = spec.metadata.get("low", 0), spec.metadata.get("high", 2**40)
    if "choices" in spec.metadata:
        return st.sampled_from(spec.metadata["choices"])
    if spec.dotted == "encryption.recipients":
        return st.lists(st.sampled_from(RECIPIENTS), unique=True).map(tuple)
    if spec.dotted == "vault.socket_users":
        return st.lists(st.from_regex(spec.metadata["pattern"], fullmatch=True), max_size=2).map(tuple)
    if "pattern" in spec.metadata:
        return st.from_regex(spec.metadata["pattern"], fullmatch=True)
    if spec.metadata.get("path"):
        return st.just("") | _short(_PATHS).map(str)
    if spec.kind is bool:
        return st.booleans()
    if spec.kind is int:
        return st.integers(low, high)
    if spec.kind is Path:
        return _short(_PATHS)
    if get_origin(spec.kind) is tuple:
        element = st.integers(low, high) if get_args(spec.kind)[0] is int else TEXT.filter(bool)
        return st.lists(element, max_size=4).map(tuple)
    return TEXT


def _short(paths: st.SearchStrategy[Path]) -> st.SearchStrategy[Path]:
    return paths.filter(lambda path: len(bytes(path)) <= 107)


def built(values: dict[tuple[str, ...], Any], patterns: dict[str, PatternSettings]) -> Settings:
    """Settings from values by key."""
    arguments: dict[str, Any] = {}
    by_section: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        if len(path) == 1:
            arguments[path[0]] = value
        else:
            by_section.setdefault(path[0], {})[path[1]] = value
    by_section.setdefault("panel", {})["patterns"] = patterns
    hints = get_type_hints(Settings)
    return Settings(**arguments, **{name: hints[name](**section) for name, section in by_section.items()})


def replaced(settings: Settings, dotted: str, value: Any) -> Settings:
    """The same settings with another value at one key."""
    section, _, name = dotted.rpartition(".")
    if not section:
        return dataclasses.replace(settings, **{name: value})
    inner = dataclasses.replace(getattr(settings, section), **{name: value})
    return dataclasses.replace(settings, **{section: inner})


def mended(settings: Settings) -> Settings:
    """Settings with the few rules between keys made to hold, where bending one key does it."""
    camera, video, gestures = settings.camera, settings.video, settings.gestures
    camera = dataclasses.replace(
        camera,
        width=camera.width & ~31,
        height=camera.height & ~1,
        device=camera.device or "clip.mp4",
        stall_ms=max(camera.stall_ms, -(-2000 // camera.fps)),
    )
    if camera.backend == "file":
        # A file's path comes back absolute, so it is absolute before as well.
        camera = dataclasses.replace(camera, device="/p/clip é.mp4")
    gop_ms = min(max(video.gop_ms, -(-1000 // camera.fps)), settings.vault.segment_s * 1000)
    double_press_ms = max(gestures.double_press_ms, 4 * gestures.debounce_ms + 1)
    settings = dataclasses.replace(
        settings,
        camera=camera,
        video=dataclasses.replace(video, gop_ms=gop_ms, bitrate_bps=min(video.bitrate_bps, 17_000_000)),
        vault=dataclasses.replace(settings.vault, signer_timeout_ms=min(settings.vault.signer_timeout_ms, gop_ms)),
        gestures=dataclasses.replace(
            gestures, double_press_ms=double_press_ms, hold_ms=max(gestures.hold_ms, double_press_ms + 1)
        ),
        recording=dataclasses.replace(
            settings.recording, durable_timeout_ms=max(settings.recording.durable_timeout_ms, gop_ms + 1)
        ),
        gpio=dataclasses.replace(
            settings.gpio,
            factory=settings.gpio.factory if settings.profile == "bench" else "lgpio",
            bench_pin_socket_path="",
            chip_labels=settings.gpio.chip_labels or ("pinctrl-rp1",),
        ),
    )
    token = settings.key.backend == "pkcs11"
    settings = dataclasses.replace(
        settings,
        key=dataclasses.replace(
            settings.key,
            module_path=(settings.key.module_path or "/p/module.so") if token else "",
            token=(settings.key.token or "token") if token else "",
            label=settings.key.label or "label",
            pin_path=(settings.key.pin_path or "/p/pin") if token else "",
        ),
    )
    if settings.audio.source == "camera" and camera.backend in {"picamera2", "webcam"}:
        settings = replaced(settings, "audio.source", "alsa")
    if settings.audio.source == "none":
        settings = replaced(settings, "buffer.audio", False)
    if not settings.encryption.recipients:
        settings = replaced(settings, "device.wearer", "")
    return replaced(settings, "buffer.max_bytes", max(settings.buffer.max_bytes, needed_buffer_bytes(settings)))


def _distinct_pins(settings: Settings, pins: list[int]) -> Settings:
    gpio = settings.gpio
    names = ("record_button_pin", "led_red_pin", "led_green_pin", "led_blue_pin", "buzzer_pin", "vibration_pin")
    taken: dict[str, Any] = dict(zip(names, pins, strict=False))
    return dataclasses.replace(
        settings, gpio=dataclasses.replace(gpio, **taken, trigger_input_pins=tuple(pins[len(names) :]))
    )


_PATTERN = st.builds(PatternSettings, light=TEXT, sound=TEXT, vibration=TEXT)


def possible_settings() -> st.SearchStrategy[Settings]:
    """Settings that nothing is wrong with."""
    values = st.fixed_dictionaries({spec.path: value_of(spec) for spec in key_specs()})
    patterns = st.dictionaries(st.sampled_from(PATTERN_NAMES), _PATTERN, max_size=2)
    pins = st.lists(st.integers(0, 63), min_size=6, max_size=9, unique=True)
    settings = st.builds(lambda v, p, n: _distinct_pins(mended(built(v, p)), n), values, patterns, pins)
    return settings.filter(lambda made: not conflicts(made))
