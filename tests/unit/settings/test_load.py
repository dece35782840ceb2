"""What the loader accepts, and that it says where, what and what instead for everything that it does not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.controller.signals import Cue, Indication
from agent.errors import ConfigError
from agent.settings.combinations import needed_buffer_bytes
from agent.settings.keys import KeySpec, key_specs
from agent.settings.load import load_settings
from agent.settings.render import canonical_json, to_toml
from agent.settings.schema import PATTERN_NAMES, CameraSettings, PatternSettings, Settings
from tests.unit.settings.strategies import RECIPIENTS, possible_settings, replaced

SPECS = {spec.dotted: spec for spec in key_specs()}
ONE_FOLDER = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def write(folder: Path, text: str, name: str = "bodycam.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, name: str = "bodycam.toml") -> str:
    """The one sentence of a refused file, without the folder."""
    with pytest.raises(ConfigError) as caught:
        load_settings(write(folder, text, name))
    assert caught.value.exit_code == 78
    message = str(caught.value)
    assert "\n" not in message, message
    assert message.endswith(".")
    assert "expected" in message
    return message.replace(f"{folder}/", "")


def test_without_any_file_the_defaults_hold() -> None:
    loaded = load_settings(None)
    assert loaded.settings == Settings()
    assert loaded.sources == ()


def test_an_empty_file_changes_nothing_and_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    loaded = load_settings(path)
    assert (loaded.settings, loaded.sources) == (Settings(), (path,))


def test_values_of_every_kind(tmp_path: Path) -> None:
    text = """
    profile = "bench"
    [buffer]
    audio = true
    pre_event_s = 0
    [gpio]
    record_button_pin = -1
    trigger_input_pins = [5, 6]
    chip_labels = ["gpio-sim"]
    [vault]
    path = "vault"
    key_path = "/elsewhere/../key"
    [panel.patterns.ready]
    light = "green"
    [panel.patterns.fault]
    """
    loaded = load_settings(write(tmp_path, text)).settings
    assert (loaded.buffer.audio, loaded.buffer.pre_event_s) == (True, 0)
    assert loaded.gpio.trigger_input_pins == (5, 6)
    assert loaded.gpio.chip_labels == ("gpio-sim",)
    assert loaded.vault.path == tmp_path / "vault"
    assert loaded.vault.key_path == Path("/key")
    assert loaded.panel.patterns == {"ready": PatternSettings(light="green"), "fault": PatternSettings()}


CASES = {
    # text: (line, what must be said)
    "[buffer]\n\npre_event = 30": (3, "buffer.pre_event = 30 is an unknown key; expected pre_event_s (a whole number of seconds from 0 to 120)"),  # noqa: E501
    "[buffer]\npre_event_ms = 30000": (2, "buffer.pre_event_ms = 30000 is an unknown key; expected pre_event_s ("),
    "[video]\ngop_seconds = 1": (2, "expected gop_ms (a whole number of milliseconds"),
    "[buffer]\npre_evnt_s = 30": (2, "expected pre_event_s ("),
    "[video]\nbitrate_kbps = 6000": (2, "expected bitrate_bps (a whole number of bits per second from 50000 to 50000000)"),  # noqa: E501
    '[buffer]\npre_event_s = "30s"': (2, 'buffer.pre_event_s = "30s"; expected a whole number of seconds from 0 to 120, without quotes or unit, such as 30'),  # noqa: E501
    "[buffer]\npre_event_s = 30.0": (2, "buffer.pre_event_s = 30.0; expected a whole number of seconds"),
    "[buffer]\npre_event_s = true": (2, "buffer.pre_event_s = true; expected a whole number of seconds"),
    "[buffer]\npre_event_s = 121": (2, "buffer.pre_event_s = 121; expected a whole number of seconds from 0 to 120"),
    "[buffer]\npre_event_s = -1": (2, "buffer.pre_event_s = -1; expected"),
    "[buffer]\naudio = 1": (2, "buffer.audio = 1; expected true or false"),
    '[buffer]\naudio = "yes"': (2, 'buffer.audio = "yes"; expected true or false'),
    '# x\n[camera]\nbackend = "usb"': (3, 'camera.backend = "usb"; expected one of "picamera2", "webcam", "file", "synthetic"'),  # noqa: E501
    "[audio]\nsample_rate_hz = 44000": (2, "audio.sample_rate_hz = 44000; expected one of 8000, "),
    "[audio]\nsample_rate_hz = 48000.0": (2, "audio.sample_rate_hz = 48000.0; expected one of"),
    '[audio]\nsample_rate_hz = "48000"': (2, 'audio.sample_rate_hz = "48000"; expected one of'),
    "[device]\nid = 7": (2, "device.id = 7; expected 1 to 64 letters"),
    '[device]\nid = "a/b"': (2, 'device.id = "a/b"; expected 1 to 64 letters'),
    '[device]\nid = "' + "a" * 65 + '"': (2, "expected 1 to 64 letters"),
    "[vault]\npath = 1": (2, "vault.path = 1; expected a path in quotes"),
    '[vault]\npath = ""': (2, 'vault.path = ""; expected a path in quotes, not empty'),
    '[vault]\npath = "a\\u0000b"': (2, "vault.path = "),
    '[vault]\nsocket_path = "/' + "s" * 107 + '"': (2, "expected a path of at most 107 bytes"),
    "[gpio]\ntrigger_input_pins = [\n 5,\n true,\n]": (4, "gpio.trigger_input_pins = [5, true]; expected a list of whole numbers"),  # noqa: E501
    "[gpio]\ntrigger_input_pins = [\n 5,\n 64,\n]": (4, "each from 0 to 63"),
    "[gpio]\ntrigger_input_pins = 5": (2, "gpio.trigger_input_pins = 5; expected a list"),
    '[gpio]\nchip_labels = ["a", 1]': (2, "gpio.chip_labels"),
    '[gpio]\nchip_labels = [""]': (2, "expected a list of strings that are not empty"),
    "[camera]\nbitrate_bps = 6": (2, "camera.bitrate_bps = 6 is an unknown key; expected in [video] or [audio]"),
    "pre_event_s = 30": (1, "pre_event_s = 30 is an unknown key; expected in [buffer]"),
    "[zebra]\nx = 1": (1, "[zebra] is an unknown section; expected one of: profile, device, vault,"),
    '[encryption]\nrecipients = [\n "x",\n]': (3, "expected a list of age public keys (age1 and 58 characters)"),
    "[bufer]\npre_event_s = 1": (1, "[bufer] is an unknown section; expected [buffer], if that was meant"),
    "[[camera]]\nfps = 1": (1, "camera = [{fps = 1}]; expected a section, [camera]"),
    "camera = 5": (1, "camera = 5; expected a section, [camera]"),
    "[video.gop_ms]\nx = 1": (1, "video.gop_ms = {x = 1}; expected a whole number of milliseconds"),
    "video = { gop_ms = 1 }": (1, "video.gop_ms = 1; expected a whole number of milliseconds from 200 to 2000"),
    'video."gop_ms" = 1': (1, "video.gop_ms = 1; expected"),
    "[panel.patterns.raedy]\nlight = ''": (1, "[panel.patterns.raedy] is an unknown section; expected [panel.patterns.ready]"),  # noqa: E501
    "[panel.patterns]\nready = 'green'": (2, 'panel.patterns.ready = "green"; expected a section, [panel.patterns.ready]'),  # noqa: E501
    "[panel.patterns.ready]\nlights = 'x'": (2, "panel.patterns.ready.lights"),
    "extends = 5": (1, "extends = 5; expected the path of one profile"),
    'extends = "nowhere.toml"': (1, "nowhere.toml, which is no file"),
    'extends = "bodycam.toml"': (1, "is this file itself, in a circle"),
    "[buffer]\npre_event_s = 30 s": (2, '"pre_event_s = 30 s" is not TOML'),
    "[buffer]\npre_event_s = 1\npre_event_s = 2": (3, "is not TOML (Cannot overwrite a value); expected"),
    "[buffer]\n[buffer]": (2, "is not TOML"),
    "a = '''\nx": (2, "is not TOML"),
}  # fmt: skip


@pytest.mark.parametrize("text", CASES, ids=[re.sub(r"\W+", "-", text)[:40] for text in CASES])
def test_a_refusal_names_file_line_key_value_and_what_was_expected(tmp_path: Path, text: str) -> None:
    line, said = CASES[text]
    message = refusal(tmp_path, text)
    assert message.startswith(f"bodycam.toml, line {line}: "), message
    assert said in message


COMBINATIONS = {
    '[gpio]\nfactory = "mock"': (2, 'gpio.factory = "mock" with profile = "production" (the default); expected gpio.factory to be factory = "lgpio"'),  # noqa: E501
    '[gpio]\nbench_pin_socket_path = "x.sock"': (2, "gpio.bench_pin_socket_path"),
    'profile = "bench"\n[gpio]\nbench_pin_socket_path = "x.sock"': (3, 'factory = "mock"'),
    "[gpio]\nrecord_button_pin = -1": (2, "gpio.record_button_pin = -1 with profile"),
    "[gpio]\nbuzzer_pin = 17": (2, "buzzer_pin and record_button_pin all claim pin 17"),
    "[gpio]\ntrigger_input_pins = [\n17]": (2, "record_button_pin and trigger_input_pins all claim pin 17"),
    "[gpio]\ntrigger_input_pins = [5, 5]": (2, "trigger_input_pins and trigger_input_pins all claim pin 5"),
    "[gpio]\nchip_labels = []": (2, "at least one label"),
    "[camera]\nwidth = 641": (2, "camera.width = 641; expected camera.width to be an even number such as 640"),
    "[camera]\nheight = 361": (2, "an even number such as 360"),
    '[camera]\nbackend = "file"': (2, 'camera.device = "" (the default) with camera.backend = "file"; expected camera.device to be the path'),  # noqa: E501
    '[camera]\nwidth = 1000\n[video]\nencoder = "h264_v4l2m2m"': (2, "a multiple of 32 such as 992"),
    "[camera]\nfps = 1\nstall_ms = 1999": (3, "expected camera.stall_ms to be at least 2000"),
    "[camera]\nfps = 4\n[video]\ngop_ms = 200\n[vault]\nsigner_timeout_ms = 200": (4, "expected video.gop_ms to be at least 250"),  # noqa: E501
    '[audio]\nsource = "camera"': (2, 'audio.source = "camera" with camera.backend = "picamera2" (the default); expected audio.source to be "alsa" or "none"'),  # noqa: E501
    '[audio]\nsource = "camera"\n[camera]\nbackend = "webcam"': (2, 'the backend "webcam" carries no sound'),
    '[audio]\nsource = "none"\n[buffer]\naudio = true': (4, "in your own file, beside source = "),
    "[gestures]\nhold_ms = 1000\ndouble_press_ms = 1000": (2, "expected gestures.hold_ms to be more than double_press_ms (1000)"),  # noqa: E501
    "[gestures]\ndouble_press_ms = 200\ndebounce_ms = 50": (2, "more than 200"),
    "[video]\ngop_ms = 2000\n[vault]\nsegment_s = 1": (2, "at most 1000"),
    "[vault]\nsigner_timeout_ms = 1001": (2, "vault.signer_timeout_ms = 1001 with video.gop_ms = 1000 (the default); expected vault.signer_timeout_ms to be at most gop_ms (1000)"),  # noqa: E501
    "[video]\ngop_ms = 499": (2, "vault.signer_timeout_ms = 500 (the default) with video.gop_ms = 499; expected vault.signer_timeout_ms to be at most"),  # noqa: E501
    "[recording]\ndurable_timeout_ms = 1000": (2, "more than gop_ms (1000)"),
    "[buffer]\nmax_bytes = 33_162_499": (2, "expected buffer.max_bytes to be at least 33162500 to hold 30 s"),
    "[buffer]\npre_event_s = 120": (2, "buffer.max_bytes = 64000000 (the default) with buffer.pre_event_s = 120"),
    '[vault]\npath = "/v"\nkey_path = "/v/device/key"': (3, "a path outside the vault /v"),
    '[key]\nbackend = "pkcs11"\ntoken = "t"\npin_path = "/pin"': (2, 'key.module_path = "" (the default) with key.backend = "pkcs11"; expected key.module_path to be the path of'),  # noqa: E501
    '[key]\nbackend = "pkcs11"\nmodule_path = "/m"\npin_path = "/pin"': (2, "expected key.token to be the label of"),
    '[key]\nbackend = "pkcs11"\nmodule_path = "/m"\ntoken = "t"': (2, "expected key.pin_path to be the path of"),
    '[key]\nbackend = "pkcs11"\nmodule_path = "/m"\ntoken = "t"\npin_path = "/p"\nlabel = ""': (6, "the label of the key"),  # noqa: E501
    '[key]\ntoken = "t"': (2, 'key.backend = "software" (the default) with key.token = "t"; expected key.backend to be "pkcs11"'),  # noqa: E501
    '[vault]\npath = "/v"\n[key]\nbackend = "pkcs11"\nmodule_path = "/m"\ntoken = "t"\npin_path = "/v/pin"': (7, "must never see the PIN"),  # noqa: E501
    '[vault]\npath = "/v"\nreceipt_queue_path = "/v"': (3, "a path outside the vault /v"),
    f"[encryption]\nrecipients = ['{RECIPIENTS[0][:-1]}q']": (2, "q is no age public key (invalid Bech32 encoding)"),
    f"[encryption]\nrecipients = ['{RECIPIENTS[0]}', '{RECIPIENTS[0]}']": (2, "at most 8 keys, each of them once"),
    "[device]\nwearer = 'Jane Doe'": (2, "expected device.wearer to be empty, because a name is journalled only"),
}  # fmt: skip


@pytest.mark.parametrize("text", COMBINATIONS, ids=[re.sub(r"\W+", "-", text)[:40] for text in COMBINATIONS])
def test_an_impossible_combination_is_refused_where_somebody_wrote_it(tmp_path: Path, text: str) -> None:
    line, said = COMBINATIONS[text]
    message = refusal(tmp_path, text)
    assert message.startswith(f"bodycam.toml, line {line}: "), message
    assert said in message


NEAR_MISSES = [
    '[buffer]\nmax_bytes = 33_162_500',
    '[audio]\nsource = "none"\n[buffer]\nmax_bytes = 32_812_500',
    "[gestures]\nhold_ms = 1001\ndouble_press_ms = 1000",
    "[gestures]\ndouble_press_ms = 201\ndebounce_ms = 50",
    "[video]\ngop_ms = 1000\n[vault]\nsegment_s = 1",
    "[recording]\ndurable_timeout_ms = 1001",
    "[gpio]\nled_red_pin = -1\nled_green_pin = -1\nled_blue_pin = -1\nbuzzer_pin = -1\nvibration_pin = -1",
    '[audio]\nsource = "camera"\n[camera]\nbackend = "synthetic"',
    'profile = "bench"\n[gpio]\nfactory = "mock"\nbench_pin_socket_path = "x"\nrecord_button_pin = -1',
    '[vault]\npath = "/v"\nkey_path = "/vault/key"',
    "[camera]\nfps = 1\nstall_ms = 2000",
    f"[device]\nwearer = 'Zoë Ångström'\n[encryption]\nrecipients = ['{RECIPIENTS[0]}', '{RECIPIENTS[1]}']",
]  # fmt: skip


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_what_is_just_possible_is_accepted(tmp_path: Path, text: str) -> None:
    load_settings(write(tmp_path, text))


def test_the_needed_buffer_is_counted_from_seconds_and_bitrates() -> None:
    # 30 s + 2 GOPs of 1 s + 3 s of stall, at 6 Mbit/s video and 64 kbit/s audio, and a quarter more.
    assert needed_buffer_bytes(Settings()) == 35 * (6_000_000 + 64_000) // 8 * 5 // 4


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = '[buffer]\npre_event_s = "30s"\naudio = 1\n[camera]\nfsp = 3\n[zebra]\n'
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, text))
    lines = str(caught.value).split("\n")
    assert [re.search(r"line (\d+)", line)[1] for line in lines] == ["2", "3", "5", "6"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[buffer]\n# caf\xe9\n", "line 2: the byte 0xe9 is not UTF-8"),
        (b"a = " + b"9" * 5000, "is not TOML"),
        (b"a = " + b"[" * 5000, "is not TOML"),
        (b"\xef\xbb\xbfprofile = 'bench'", "line 1"),
    ],
)
def test_a_file_that_is_no_toml_is_a_sentence_and_not_a_traceback(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bodycam.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_settings(path)


def test_a_missing_file_and_a_folder_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read as the configuration file \(No such file"):
        load_settings(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path)


# How files combine


def test_the_nearer_file_wins_key_by_key(tmp_path: Path) -> None:
    base = write(
        tmp_path, "[camera]\nfps = 25\nwidth = 640\n[panel.patterns.ready]\nlight = 'a'\nsound = 'b'", "p/x.toml"
    )
    local = write(tmp_path, "extends = 'p/x.toml'\n[camera]\nfps = 10\n[panel.patterns.ready]\nlight = 'c'")
    loaded = load_settings(local)
    assert loaded.sources == (base, local)
    assert loaded.settings.camera == CameraSettings(fps=10, width=640)
    assert loaded.settings.panel.patterns == {"ready": PatternSettings(light="c", sound="b")}


def test_a_relative_path_is_taken_from_the_file_it_stands_in(tmp_path: Path) -> None:
    write(
        tmp_path,
        "profile = 'bench'\n[vault]\npath = 'vault'\nkey_path = '../key'\n[camera]\ndevice = 'clip.mp4'\n"
        "[gpio]\nfactory = 'mock'\nbench_pin_socket_path = 'pins.sock'\n[audio]\nsource = 'none'",
        "p/x.toml",
    )
    local = write(tmp_path, "extends = 'p/x.toml'\n[vault]\nsocket_path = 's'\n[camera]\nbackend = 'file'")
    loaded = load_settings(local).settings
    assert loaded.vault.path == tmp_path / "p" / "vault"
    assert loaded.vault.key_path == tmp_path / "key"
    assert loaded.vault.socket_path == tmp_path / "s"
    assert loaded.gpio.bench_pin_socket_path == str(tmp_path / "p" / "pins.sock")
    assert loaded.camera.device == str(tmp_path / "p" / "clip.mp4")


def test_a_v4l2_device_is_no_path_of_ours(tmp_path: Path) -> None:
    path = write(tmp_path, "[camera]\nbackend = 'webcam'\ndevice = '0'")
    assert load_settings(path).settings.camera.device == "0"


def test_relative_paths_follow_the_real_place_of_a_linked_file(tmp_path: Path) -> None:
    real = write(tmp_path, "[vault]\npath = '../vault'", "real/deep/bodycam.toml")
    link = tmp_path / "link.toml"
    link.symlink_to(real)
    assert load_settings(link).settings.vault.path == tmp_path / "real" / "vault"


def test_a_mistake_in_the_extended_file_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, "[camera]\nfps = 0", "p/x.toml")
    assert refusal(tmp_path, "extends = 'p/x.toml'").startswith("p/x.toml, line 2: camera.fps = 0;")


def test_a_conflict_between_two_files_is_told_at_the_key_to_change(tmp_path: Path) -> None:
    write(tmp_path, "[buffer]\nmax_bytes = 40_000_000", "p/x.toml")
    message = refusal(tmp_path, "extends = 'p/x.toml'\n[buffer]\npre_event_s = 120")
    assert message.startswith("p/x.toml, line 2: buffer.max_bytes = 40000000 with buffer.pre_event_s = 120 with")


def test_an_extended_file_extends_nothing(tmp_path: Path) -> None:
    write(tmp_path, "\nextends = 'y.toml'", "x.toml")
    write(tmp_path, "", "y.toml")
    assert refusal(tmp_path, "extends = 'x.toml'").startswith(
        'x.toml, line 2: extends = "y.toml" is in a file that is itself'
    )
    write(tmp_path, "extends = 'bodycam.toml'", "x.toml")
    assert "in a circle" in refusal(tmp_path, "extends = 'x.toml'")


def test_a_profile_by_name(tmp_path: Path) -> None:
    beside = write(tmp_path, "[camera]\nfps = 7", "profiles/mine.toml")
    local = write(tmp_path, "[camera]\nwidth = 64")
    loaded = load_settings(local, profile="mine")
    assert loaded.sources == (beside, local)
    assert (loaded.settings.camera.fps, loaded.settings.camera.width) == (7, 64)


@pytest.mark.parametrize("name", ["nope", "../mine", "", "a/b", "/etc/passwd"])
def test_an_unknown_profile_lists_those_there_are(tmp_path: Path, name: str) -> None:
    write(tmp_path, "", "mine.toml")
    write(tmp_path, "", "profiles/also-mine.toml")
    with pytest.raises(ConfigError, match=r"expected one of: also-mine, bench, pi-4-cm4, pi-5, pi-zero-2w\."):
        load_settings(write(tmp_path, ""), profile=name)


def test_extends_and_a_profile_at_once_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "", "profiles/mine.toml")
    with pytest.raises(ConfigError, match=r"line 1: .*only one of the two"):
        load_settings(write(tmp_path, "extends = 'profiles/mine.toml'"), profile="mine")


def test_overrides_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = {
        "camera.fps": "12",
        "camera.backend": "file",
        "camera.device": "clip.mp4",
        "audio.source": "none",
        "vault.path": "v w",
        "gpio.trigger_input_pins": "[5]",
        "gestures.single_press_marks": "false",
        "audio.sample_rate_hz": "44_100",
    }
    made = load_settings(write(tmp_path / "conf", "[camera]\nfps = 25"), overrides=overrides).settings
    assert (made.camera.fps, made.camera.device) == (12, str(tmp_path / "clip.mp4"))
    assert made.vault.path == tmp_path / "v w"
    assert made.gpio.trigger_input_pins == (5,)
    assert not made.gestures.single_press_marks
    assert made.audio.sample_rate_hz == 44_100


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('"/x y"', "/x y"),
        ("'/x'", "/x"),
        ("/x", "/x"),
        ('/a"b"', '/a"b"'),
        ('/"', '/"'),
        ('"/a\\tb"', "/a\tb"),
        (r"'/a\tb'", r"/a\tb"),
    ],
)
def test_quotes_around_an_override_are_those_of_toml(text: str, path: str) -> None:
    assert load_settings(None, overrides={"vault.path": text}).settings.vault.path == Path(path)


def test_quotes_around_text_are_no_part_of_it() -> None:
    made = load_settings(None, overrides={"device.id": '"CAM-7"', "audio.source": "'none'"}).settings
    assert (made.device.id, made.audio.source) == ("CAM-7", "none")


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("camera.fps", "fast", 'camera.fps = "fast"; expected a whole number of frames per second from 1 to 120'),
        ("camera.fps", "12\nx = 1", "expected a whole number"),
        ("camera.fps", "", "expected a whole number"),
        ("camera.fsp", "12", 'camera.fsp = "12" is an unknown key; expected camera.fps ('),
        ("camera", "12", 'camera = "12" is an unknown key; expected'),
        ("panel.patterns.ready.light", "x", "unknown key"),
        ("gpio.factory", "mock", 'gpio.factory = "mock" with profile'),
    ],
)
def test_a_wrong_override_names_the_command_line(key: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^command line: ") as caught:
        load_settings(None, overrides={key: text})
    assert said in str(caught.value)


# The hash


def test_the_hash_is_of_what_is_in_force_and_not_of_how_it_was_written(tmp_path: Path) -> None:
    one = load_settings(write(tmp_path, "# why\n[camera]\nfps = 25\n[video]\ngop_ms = 500\n", "a.toml"))
    write(tmp_path, "video = { gop_ms = 0x1F4 }\n[camera]\nfps = 3", "base.toml")
    two = load_settings(write(tmp_path, "extends = 'base.toml'\n[camera]\nfps = 2_5", "b.toml"))
    assert one.sha256 == two.sha256
    assert one.sha256 != load_settings(None).sha256


def test_the_canonical_form_is_the_documented_one() -> None:
    data = canonical_json(replaced(Settings(), "audio.device", "plughw:é"))
    document = json.loads(data)
    assert json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii") == data
    assert document["vault"]["path"] == "/var/lib/bodycam/vault"
    assert b"plughw:\\u00e9" in data
    leaves = {f"{section}.{key}" for section, table in document.items() if section != "profile" for key in table}
    assert leaves | {"profile"} == {*SPECS, "panel.patterns"}
    assert load_settings(None).sha256 == hashlib.sha256(canonical_json(Settings())).hexdigest()


@ONE_FOLDER
@given(possible_settings(), st.data())
def test_any_single_difference_changes_the_hash(made: Settings, data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(list(SPECS.values())))
    section, _, name = spec.dotted.rpartition(".")
    old = getattr(getattr(made, section) if section else made, name)
    if spec.dotted == "device.wearer":
        assert canonical_json(replaced(made, spec.dotted, "Jane Doe")) == canonical_json(made)
        return
    other = {bool: not old, int: 0 if old else 1, Path: Path("/other"), str: f"{old}x"}.get(
        type(old), (*map(str, [old]), 1)
    )
    assert canonical_json(replaced(made, spec.dotted, other)) != canonical_json(made)


# Any settings, any mistake


def test_pattern_names_are_the_panels() -> None:
    assert set(PATTERN_NAMES) == {signal.value for signal in (*Indication, *Cue)}
    assert len(PATTERN_NAMES) == len([*Indication, *Cue])


@ONE_FOLDER
@given(possible_settings())
def test_any_settings_written_as_toml_load_back_equal(tmp_path: Path, made: Settings) -> None:
    loaded = load_settings(write(tmp_path, to_toml(made)))
    assert loaded.settings == made


def wrong_values(spec: KeySpec) -> st.SearchStrategy[str]:
    """TOML values that the key cannot take."""
    wrong = ["1979-05-27", "1.5", "nan", "{ a = 1 }", "[[1]]", "[true]", "9223372036854775807"]
    if spec.kind is not bool:
        wrong += ["true"]
    if spec.kind is int:
        wrong += [str(spec.metadata["high"] + 1) if "high" in spec.metadata else "7", '"30s"', '""', "-9"]
    if spec.dotted == "device.wearer":
        wrong += [f'"{"n" * 129}"', '"a\\tb"']
    elif spec.kind is str and ("choices" in spec.metadata or "pattern" in spec.metadata):
        wrong += ['"no such thing"', '""']
    if spec.dotted == "encryption.recipients":
        wrong += ['["age1"]', f'["{RECIPIENTS[0].upper()}"]', f'["{RECIPIENTS[0]} "]', f'"{RECIPIENTS[0]}"']
    if spec.kind is Path:
        wrong += ['""']
    return st.sampled_from(wrong)


@ONE_FOLDER
@given(possible_settings(), st.data())
def test_any_single_wrong_value_is_refused_by_name_and_line(
    tmp_path: Path, made: Settings, data: st.DataObject
) -> None:
    spec = data.draw(st.sampled_from(list(SPECS.values())))
    section = ".".join(spec.path[:-1])
    lines = to_toml(made).split("\n")
    start = lines.index(f"[{section}]") if section else -1
    at = next(n for n in range(start + 1, len(lines)) if lines[n].startswith(f"{spec.name} = "))
    lines[at] = f"{spec.name} = {data.draw(wrong_values(spec))}"
    message = refusal(tmp_path, "\n".join(lines))
    assert message.startswith(f"bodycam.toml, line {at + 1}: {spec.dotted} = "), message
    assert message.endswith(f"expected {spec.expectation}.") or spec.expectation in message or spec.kind is Path


@ONE_FOLDER
@given(possible_settings(), st.data())
def test_any_single_misspelt_key_is_refused_by_name_and_line(
    tmp_path: Path, made: Settings, data: st.DataObject
) -> None:
    spec = data.draw(st.sampled_from(list(SPECS.values())))
    lines = to_toml(made).split("\n")
    section = ".".join(spec.path[:-1])
    start = lines.index(f"[{section}]") if section else -1
    at = next(n for n in range(start + 1, len(lines)) if lines[n].startswith(f"{spec.name} = "))
    position = data.draw(st.integers(0, len(spec.name)))
    misspelt = spec.name[:position] + data.draw(st.sampled_from("xyz")) + spec.name[position:]
    lines[at] = misspelt + lines[at].removeprefix(spec.name)
    message = refusal(tmp_path, "\n".join(lines))
    dotted = f"{section}.{misspelt}" if section else misspelt
    assert message.startswith(f"bodycam.toml, line {at + 1}: {dotted} = "), message
    # A short name may be nearer to another key of its section; a longer one is guessed.
    if len(spec.name) >= 6:
        assert spec.name in message


def test_every_field_of_the_schema_can_be_loaded() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert {spec.path[0] for spec in SPECS.values()} == fields
